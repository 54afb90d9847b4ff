"""The fixed procedure, in float64 NumPy: (clean, parameters, utt_id) -> noisy.

The clean signal goes through an STFT, manipulations of the complex bins and the inverse STFT;
recorded noise may then be added. "Fixed" means that the procedure, its parameters and every random
draw are determined: each draw is a function of (seed, utt_id, position of the manipulation) alone,
so the noisy file is the same on every machine, in any order, with any number of jobs. One mask for
all files would be a linear degradation that a network can invert; one mask per utterance is not.

A procedure is written as a YAML file (`egs/vctk/conf/noise.yaml` holds the default and explains
every key).
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.config import check_interval, check_keys, check_number, read_yaml
from gan_denoise.corruption.mix import BackgroundNoise
from gan_denoise.datadir import check_duration
from gan_denoise.errors import InputError
from gan_denoise.signal.arrays import HIGHEST_RATE, LOWEST_RATE
from gan_denoise.signal.numpy_stft import (
    WINDOWS,
    Inverse,
    cosine_window,
    frame_count,
    pairwise_sum,
    stft,
)
from gan_denoise.signal.rates import samples_at
from gan_denoise.system.files import digest

DEFAULT = {
    "seed": 0,
    "stft": {"n_fft": 1024, "hop_length": 256, "window": "hann", "sample_rate": 16000},
    "manipulations": [
        {"zero": {"share": 0.2}},
        {"scale": {"share": 0.1, "factor": 3.0}},
        {"add": {"share": 0.5, "level": 0.3}},
    ],
}

_PARAMETERS = {"zero": (), "scale": ("factor",), "add": ("level",), "set": ("magnitude",)}
_SELECTION = ("share", "band_hz", "quantile")
_BINS_AT_ONCE = 2**21  # a bin of an STFT takes 16 bytes, and its draws about as much again


class Procedure:
    """A noising procedure: parsed, checked, and ready to be applied.

    parameters: the mapping that a noise YAML holds. source: the procedure's name in messages.
    folder: where the recordings of `mix` are looked up when their paths are relative. Raises
    InputError for anything unknown, missing or out of range.
    """

    def __init__(self, parameters: Mapping, *, source: str = "noise", folder: str | Path = "."):
        self.parameters = copy.deepcopy(dict(parameters))
        self._check(source)
        mix = self.parameters.get("mix")
        self._mix = (
            BackgroundNoise(mix, source=f"{source}: mix", folder=Path(folder)) if mix else None
        )

    @classmethod
    def load(cls, path: str | Path) -> Procedure:
        """Read a procedure from a YAML file. Raises InputError."""
        return cls(read_yaml(path), source=str(path), folder=Path(path).parent)

    @classmethod
    def of_data(cls, record: Mapping, folder: str | Path) -> Procedure:
        """The procedure that corrupted a data directory.

        record: the content of its noise.yaml. Raises InputError where the procedure is not known
        any more.
        """
        where = f"{folder}/noise.yaml"
        if not isinstance(record.get("procedure"), Mapping):
            raise InputError(
                f"{where}: the noise came with the corpus and cannot be drawn anew: set"
                " fresh_noise=false"
            )
        procedure = cls(record["procedure"], source=where, folder=record.get("folder", "."))
        if procedure.fingerprint(record["sample_rate"]) != record["fingerprint"]:
            raise InputError(
                f"{where}: its recorded noise has changed since: run stage 1 into another --data"
            )
        return procedure

    def at(self, sample_rate: int) -> dict:
        """The parameters at a rate: those of an STFT in samples at that rate.

        An STFT with a `sample_rate` lasts as long at every rate. Its magnitudes grow with the
        window, and so does the one that `set` gives.
        """
        parameters = copy.deepcopy(self.parameters)
        settings = parameters["stft"]
        n_fft, base = settings["n_fft"], settings.pop("sample_rate", sample_rate)
        settings["n_fft"] = samples_at(n_fft, sample_rate, multiple=2, base=base)
        hop_length = samples_at(settings["hop_length"], sample_rate, base=base)
        settings["hop_length"] = min(
            hop_length, _longest_hop(settings["window"], settings["n_fft"])
        )
        for manipulation in parameters["manipulations"]:
            if "set" in manipulation and settings["n_fft"] != n_fft:
                manipulation["set"]["magnitude"] *= settings["n_fft"] / n_fft
        return parameters

    def fingerprint(self, sample_rate: int) -> str:
        """12 hexadecimal digits of the rate, the parameters there, and the recorded noise."""
        identity = {**self.at(sample_rate), "sample_rate": sample_rate}
        if self._mix:
            identity["mix"] = self._mix.identity()
        return digest(identity)

    def apply(
        self, clean: np.ndarray, utt_id: str, sample_rate: int, *, split: str = "test"
    ) -> np.ndarray:
        """Corrupt one utterance.

        clean: (T,) real, full scale 1.0, T >= 1. Returns noisy (T,) float64, which may exceed full
        scale. `split` selects the recordings that `mix` may draw from, nothing else. Raises
        InputError.
        """
        clean = np.asarray(clean, dtype=np.float64)
        if clean.ndim != 1 or len(clean) == 0:
            raise InputError(
                f"{utt_id}: expected samples of shape (T,) with T >= 1, found {clean.shape}"
            )
        noisy = (
            self._manipulate(clean, utt_id, sample_rate)
            if self.parameters["manipulations"]
            else clean
        )
        if self._mix:
            draws = _Draws(self.parameters["seed"], utt_id, "mix").uniform((3,))
            noisy = noisy + self._mix.excerpt(clean, draws, utt_id, sample_rate, split)
        return noisy

    def _manipulate(self, clean: np.ndarray, utt_id: str, sample_rate: int) -> np.ndarray:
        """Apply the manipulations, to some frames at a time.

        The result is the same to the bit as for all frames at once, and memory is that of the
        signals, not of their STFT.
        """
        parameters = self.at(sample_rate)
        seed, settings = parameters["seed"], parameters["stft"]
        hop_length, n_fft = settings["hop_length"], settings["n_fft"]
        window = cosine_window(settings["window"], n_fft)
        count, bins = frame_count(len(clean), hop_length), n_fft // 2 + 1
        steps = [next(iter(manipulation.items())) for manipulation in parameters["manipulations"]]
        ranked = any("quantile" in options for _, options in steps)  # among all bins
        at_once = count if ranked else max(1, _BINS_AT_ONCE // bins)
        starts = range(0, count, at_once)

        def spectrum_from(start: int) -> np.ndarray:
            return stft(clean, window, hop_length, start, min(count, start + at_once))

        if len(starts) == 1:  # as for most utterances: one STFT serves both passes
            spectrum_from = functools.cache(spectrum_from)
        powers = (_power(spectrum_from(start)).reshape(-1) for start in starts)
        adds = any(kind == "add" for kind, _ in steps)
        rms = np.sqrt(pairwise_sum(powers, count * bins) / (count * bins)) if adds else 0.0
        # A manipulation's bins are drawn first, then its phases
        chosen = [_Draws(seed, utt_id, position) for position in range(len(steps))]
        phases = [
            _Draws(seed, utt_id, position, skip=count * bins) for position in range(len(steps))
        ]
        frequency_hz = np.arange(bins) * sample_rate / n_fft
        inverse = Inverse(window, hop_length, len(clean))
        for start in starts:
            spectrum = spectrum_from(start)
            # Quantiles rank the bins as they were before any manipulation
            power = _power(spectrum) if ranked else np.empty(0)
            for (kind, options), choice, phase in zip(steps, chosen, phases, strict=True):
                where = choice.uniform(spectrum.shape) < options["share"]
                if "band_hz" in options:
                    low, high = options["band_hz"]
                    where &= (frequency_hz >= low) & (frequency_hz <= high)
                if "quantile" in options:
                    where &= _within_quantile(power, *options["quantile"])
                _MANIPULATE[kind](spectrum, where, options, rms, phase)
            inverse.push(spectrum)
        return inverse.signal()

    def _check(self, source: str) -> None:
        parameters = self.parameters
        check_keys(parameters, ("seed", "stft", "manipulations", "mix"), source)
        for key in ("seed", "stft", "manipulations"):
            if key not in parameters:
                raise InputError(f'{source}: "{key}" is missing')
        check_number(parameters["seed"], f"{source}: seed", whole=True)
        settings = parameters["stft"]
        check_keys(settings, ("n_fft", "hop_length", "window", "sample_rate"), f"{source}: stft")
        n_fft, hop_length, window = (settings.get(key) for key in ("n_fft", "hop_length", "window"))
        if not isinstance(window, str) or window not in WINDOWS:
            raise InputError(
                f"{source}: stft: window: expected one of {', '.join(sorted(WINDOWS))}, found"
                f" {window!r}"
            )
        check_number(n_fft, f"{source}: stft: n_fft", low=2, whole=True)
        if n_fft % 2:
            raise InputError(
                f"{source}: stft: n_fft: expected an even number of samples, found {n_fft}"
            )
        longest = _longest_hop(window, n_fft)
        check_number(hop_length, f"{source}: stft: hop_length", low=1, high=longest, whole=True)
        if "sample_rate" in settings:
            check_number(
                settings["sample_rate"],
                f"{source}: stft: sample_rate",
                low=LOWEST_RATE,
                high=HIGHEST_RATE,
                whole=True,
            )
        if not isinstance(parameters["manipulations"], list):
            raise InputError(
                f"{source}: manipulations: expected a list, such as [zero: {{share: 0.2}}]"
            )
        for position, manipulation in enumerate(parameters["manipulations"]):
            _check_manipulation(manipulation, f"{source}: manipulations[{position}]")
        if not parameters["manipulations"] and not parameters.get("mix"):
            raise InputError(f"{source}: neither manipulations nor mix: nothing would be corrupted")


def default() -> Procedure:
    """The project's default procedure, the same as `egs/vctk/conf/noise.yaml`."""
    return Procedure(DEFAULT, source="default noise")


@functools.cache
def load_once(path: Path | None) -> Procedure:
    """The procedure of a file, or the default one; each process reads its recordings once."""
    return Procedure.load(path) if path else default()


def corrupt_file(
    noise: Path | None,
    source: Path,
    target: Path,
    utt_id: str,
    *,
    split: str,
    duration_s: float | None = None,
) -> None:
    """Corrupt a mono recording by the procedure of a file (None: the default procedure).

    duration_s: the duration that its data directory states. Raises InputError.
    """
    clean, sample_rate = audio.read_mono(source, dtype="float64")
    if duration_s is not None:
        check_duration(source, utt_id, len(clean), duration_s, sample_rate)
    noisy = load_once(noise).apply(clean, utt_id, sample_rate, split=split)
    audio.write_wav(target, noisy, sample_rate)


class _Draws:
    """Uniform numbers in [0, 1) that are a function of (seed, utt_id, position).

    They are made of Philox's raw bits, which no NumPy release reorders.
    """

    def __init__(self, seed: int, utt_id: str, position: int | str, *, skip: int = 0):
        key = hashlib.sha256(f"{seed}\0{utt_id}\0{position}".encode()).digest()[:16]
        # Philox makes four numbers from every state of its counter
        self._bits = np.random.Philox(key=int.from_bytes(key, "little"), counter=skip // 4)
        self._bits.random_raw(skip % 4)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        raw = self._bits.random_raw(int(np.prod(shape)))
        raw >>= np.uint64(11)
        return (raw * 2.0**-53).reshape(shape)


def _longest_hop(window: str, n_fft: int) -> int:
    """With a longer hop some samples have (almost) no weight in any frame."""
    return n_fft if window == "rectangular" else n_fft // 2


def _power(spectrum: np.ndarray) -> np.ndarray:
    return spectrum.real**2 + spectrum.imag**2


def _within_quantile(power: np.ndarray, low: float, high: float) -> np.ndarray:
    """The bins whose rank by magnitude lies in [low, high) of all bins.

    Bins of equal power keep their order in time.
    """
    rank = np.empty(power.size, dtype=np.int64)
    rank[np.argsort(power, axis=None, kind="stable")] = np.arange(power.size)
    return ((rank >= low * power.size) & (rank < high * power.size)).reshape(power.shape)


# A manipulation takes the spectrum, which it changes in place, the chosen bins, its options, the
# RMS magnitude of the clean STFT (0 where nothing is added), and draws that no other one uses
def _zero(
    spectrum: np.ndarray, chosen: np.ndarray, options: Mapping, rms: float, draws: _Draws
) -> None:
    spectrum[chosen] = 0.0


def _scale(
    spectrum: np.ndarray, chosen: np.ndarray, options: Mapping, rms: float, draws: _Draws
) -> None:
    spectrum[chosen] *= options["factor"]


def _add(
    spectrum: np.ndarray, chosen: np.ndarray, options: Mapping, rms: float, draws: _Draws
) -> None:
    where = np.flatnonzero(chosen)
    phase = draws.uniform(spectrum.shape).reshape(-1)[where]
    phase *= 2.0 * np.pi
    magnitude = options["level"] * rms
    added = np.empty(len(where), dtype=np.complex128)
    added.real, added.imag = magnitude * np.cos(phase), magnitude * np.sin(phase)
    spectrum.reshape(-1)[where] += added


def _set(
    spectrum: np.ndarray, chosen: np.ndarray, options: Mapping, rms: float, draws: _Draws
) -> None:
    bins = spectrum[chosen]
    magnitude = np.sqrt(bins.real**2 + bins.imag**2)
    # A bin of magnitude 0 has no phase and takes phase 0
    direction = np.divide(bins, magnitude, out=np.ones_like(bins), where=magnitude > 0)
    spectrum[chosen] = options["magnitude"] * direction


_MANIPULATE = {"zero": _zero, "scale": _scale, "add": _add, "set": _set}


def _check_manipulation(manipulation: object, where: str) -> None:
    if not isinstance(manipulation, Mapping) or len(manipulation) != 1:
        raise InputError(
            f"{where}: expected one manipulation, such as zero: {{share: 0.2}}, found"
            f" {manipulation!r}"
        )
    check_keys(manipulation, _PARAMETERS, where)
    ((kind, options),) = manipulation.items()
    where = f"{where}: {kind}"
    check_keys(options, (*_SELECTION, *_PARAMETERS[kind]), where)
    check_number(options.get("share"), f"{where}: share", low=0.0, high=1.0)
    for key in _PARAMETERS[kind]:
        check_number(options.get(key), f"{where}: {key}", low=-np.inf if key == "factor" else 0.0)
    if "quantile" in options:
        check_interval(options["quantile"], f"{where}: quantile", low=0.0, high=1.0)
    if "band_hz" in options:
        check_interval(options["band_hz"], f"{where}: band_hz", low=0.0)
