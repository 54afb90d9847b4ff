#!/usr/bin/env python3
"""Print the tables of a card above 8 kHz, as Markdown.

    card_wide.py [--split dev] [--mixtures N] [--command "NAME=PROGRAM {in} {out}"]
                 [--picture FILE.png] SPEECH NOISE

They compare the band from 8 to 20 kHz before and after, for speech at 48 kHz in noise that no
training heard. SPEECH, NOISE: folders as for recipes/make_high_band.py; the speakers and kinds used
are those that it leaves out. --command adds another denoiser, which is run on every file: WAV in,
WAV out. --picture draws spectrograms of four mixtures and makes no tables.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import recipe_path  # noqa: F401
from card import System, loaded
from gan_denoise import audio
from gan_denoise.errors import InputError
from gan_denoise.metrics import ALL, Signals
from gan_denoise.metrics.high_band import above
from gan_denoise.signal.numpy_stft import spectrogram_db
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import program, progress
from kaldi.options import positive
from make_high_band import DEV, RATE, TEST

SNRS_DB = (0, 5, 10, 15, 20)
SHOWN = ("lsd_high", "si_sdr_high")
HIGHEST_HZ = 20000
STRENGTHS = (0.0, 0.5, 1.0)
MODELS = ("files", "live")
# Thirds of octaves from 8 to 20 kHz
CENTRES_HZ = (8000, 10000, 12500, 16000)
Denoise = Callable[[np.ndarray], np.ndarray]


class Mixture(NamedTuple):
    """(T,) samples at RATE."""

    snr_db: int
    clean: np.ndarray
    noise: np.ndarray


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--split", choices=("dev", "test"), default="test", help="which recordings (default test)"
    )
    parser.add_argument(
        "--mixtures", type=positive, default=40, metavar="N", help="number of mixtures (default 40)"
    )
    parser.add_argument(
        "--command", metavar="NAME=CMD", help="another denoiser, with {in} and {out}"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw spectrograms into a PNG")
    for name in ("speech", "noise"):
        help_text = f"folder of {name} at {RATE} Hz"
        parser.add_argument(name, type=Path, metavar=name.upper(), help=help_text)
    arguments = parser.parse_args()
    sources = DEV if arguments.split == "dev" else TEST
    speech = _recordings(arguments.speech, lambda path: path.parent.name in sources)
    noise = _recordings(arguments.noise, lambda path: path.name.split("_")[0] in sources)
    systems: dict[str, Denoise] = {
        "noisy": lambda wave: wave,
        "files, drop": partial(_packaged, "files", None, "drop"),
        "files, keep": partial(_packaged, "files", None, "keep"),
        **{name: partial(_packaged, name, None, "model") for name in MODELS},
    }
    if arguments.command:
        name, _, command = arguments.command.partition("=")
        system = System(Path(name), command)
        systems[name] = lambda wave: system(wave, RATE)
    mixtures = [_mixture(speech, noise, number) for number in range(arguments.mixtures)]
    if arguments.picture:
        _draw(arguments.picture, systems, mixtures[1:5])
        return
    print(f"{arguments.mixtures} mixtures, LSD dB / SI-SDR dB of 8 to 20 kHz, by SNR:\n")
    _print(["system", *(f"{snr} dB" for snr in SNRS_DB)], _by_snr(systems, mixtures))
    print("\nNoise alone, lowered by dB from 8 to 20 kHz, at strengths of 0, 0.5 and 1:\n")
    _print(["noise", *(f"{name}, {s}" for name in MODELS for s in STRENGTHS)], _alone(noise))
    print("\nClean speech: level of the loudest fifth of 10 ms, output to input, in dB:\n")
    bands = [f"{centre / 1000:g} kHz" for centre in CENTRES_HZ]
    _print(["model and strength", *bands], _clean(speech))


def _packaged(name: str, strength: float | None, high_band: str, wave: np.ndarray) -> np.ndarray:
    enhanced = loaded(Path(name))(wave, RATE, strength=strength, high_band=high_band)
    return enhanced.astype(np.float64)


def _recordings(folder: Path, chosen: Callable[[Path], bool]) -> list[np.ndarray]:
    """Raises InputError where there are none."""
    paths = sorted(path for path in audio.find(folder) if chosen(path))
    if not paths:
        raise InputError(folder, "no recordings of this split", "name the folder of the training")
    return [audio.read_mono(path, sample_rate=RATE, dtype="float64")[0] for path in paths]


def _mixture(speech: list[np.ndarray], noise: list[np.ndarray], number: int) -> Mixture:
    snr_db = SNRS_DB[number % len(SNRS_DB)]
    clean = speech[number % len(speech)][: 4 * RATE]
    added = np.resize(noise[7 * number % len(noise)], len(clean))
    gain = np.sqrt(np.mean(clean**2) / np.mean(added**2)) * 10.0 ** (-snr_db / 20.0)
    return Mixture(snr_db, clean, gain * added)


def _scores(clean: np.ndarray, enhanced: np.ndarray) -> list[float]:
    """At twice HIGHEST_HZ, where the band ends."""
    rate = 2 * HIGHEST_HZ
    speech, output = (audio.resample(wave, RATE, rate) for wave in (clean, enhanced))
    signals = Signals(speech, output, None, rate)
    return [ALL[name].function(signals) for name in SHOWN]


def _by_snr(systems: dict[str, Denoise], mixtures: list[Mixture]) -> Iterable[list[str]]:
    for name, denoise in systems.items():
        measured: dict[int, list[list[float]]] = {snr_db: [] for snr_db in SNRS_DB}
        for mixture in progress(mixtures, total=len(mixtures), label=name, unit="mixtures"):
            enhanced = denoise(mixture.clean + mixture.noise)
            measured[mixture.snr_db].append(_scores(mixture.clean, enhanced))
        means = [np.mean(values, axis=0) for values in measured.values()]
        yield [name, *(f"{lsd:.2f} / {si_sdr:.1f}" for lsd, si_sdr in means)]


def _level_db(wave: np.ndarray) -> float:
    high = above(audio.resample(wave, RATE, 2 * HIGHEST_HZ), 2 * HIGHEST_HZ)
    return float(10.0 * np.log10(np.mean(high**2) + 1e-20))


def _alone(noise: list[np.ndarray]) -> Iterable[list[str]]:
    """White noise, and recordings, of which the mean is shown."""
    white = 0.02 * np.random.default_rng(0).standard_normal(3 * RATE)
    waves = {"white": [white], "recorded": [np.resize(wave, 3 * RATE) for wave in noise]}
    for name, recordings in waves.items():
        lowered = [
            np.mean(
                [
                    _level_db(wave) - _level_db(_packaged(model, strength, "model", wave))
                    for wave in recordings
                ]
            )
            for model in MODELS
            for strength in STRENGTHS
        ]
        yield [name, *(f"{value:.1f}" for value in lowered)]


def _clean(speech: list[np.ndarray]) -> Iterable[list[str]]:
    for model in MODELS:
        for strength in STRENGTHS:
            changes = []
            for wave in speech:
                enhanced = _packaged(model, strength, "model", wave)
                changes.append([_change_db(wave, enhanced, centre) for centre in CENTRES_HZ])
            yield [f"{model}, {strength}", *(f"{value:+.2f}" for value in np.mean(changes, axis=0))]


def _change_db(clean: np.ndarray, enhanced: np.ndarray, centre_hz: float) -> float:
    """How much louder a third of an octave is where it is loud in the clean recording."""
    low, high = centre_hz * 2 ** (-1 / 6), min(centre_hz * 2 ** (1 / 6), HIGHEST_HZ)
    size = RATE // 100
    powers = []
    for wave in (clean, enhanced):
        band = above(wave, RATE, low) - above(wave, RATE, high)
        hops = band[: len(band) // size * size].reshape(-1, size)
        powers.append(np.mean(hops**2, axis=1))
    loud = powers[0] >= np.quantile(powers[0], 0.8)
    return float(10.0 * np.log10(powers[1][loud].sum() / powers[0][loud].sum()))


def _draw(path: Path, systems: dict[str, Denoise], mixtures: list[Mixture]) -> None:
    """Rows of mixtures, columns of what becomes of them."""
    from matplotlib.figure import Figure
    from PIL import Image

    columns = {
        "noisy": systems["noisy"],
        "up to 8 kHz (drop)": systems["files, drop"],
        "files": systems["files"],
    }
    size = (9.0, 1.7 * len(mixtures))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(mixtures), len(columns) + 1, sharex="row", sharey=True)
    for row, mixture in zip(grid, mixtures, strict=True):
        waves = {name: denoise(mixture.clean + mixture.noise) for name, denoise in columns.items()}
        for place, (name, wave) in zip(row, {**waves, "clean": mixture.clean}.items(), strict=True):
            levels = spectrogram_db(wave[: 3 * RATE], RATE)
            extent = (0.0, len(wave[: 3 * RATE]) / RATE, 0.0, RATE / 2000)
            shown = {"origin": "lower", "aspect": "auto", "cmap": "magma", "extent": extent}
            place.imshow(levels, vmin=levels.max() - 90.0, **shown)
            place.set_title(f"{name}, {mixture.snr_db} dB" if name == "noisy" else name, size=8)
            place.tick_params(labelsize=7)
        row[0].set_ylabel("kHz", size=8)
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=80)
    Image.open(drawn).convert("RGB").quantize(48).save(small, "PNG", optimize=True)
    write_atomically(path, small.getvalue())


def _print(headings: list[str], rows: Iterable[list[str]]) -> None:
    print(f"| {' | '.join(headings)} |\n|---|{'---:|' * (len(headings) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
