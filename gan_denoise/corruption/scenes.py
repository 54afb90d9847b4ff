"""Scenes: what surrounds a training segment, drawn anew at every visit.

An excerpt of clean speech may be played faster or slower and through another filter; both change
the target too. Then the excerpt is corrupted: by noise (several sources at once, each through its
own filter, at an SNR drawn from a range), by the data's fixed procedure, by both or by nothing; or
the noise stands alone. A visit may take place in a room, of which the target keeps the early
reflections, and the recording may have passed a channel (channel.py). What the target keeps of a
clean recording is explained in targets.py. `Segments` asks for one scene a visit; an experiment's
`scenes:` describes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from gan_denoise import audio
from gan_denoise.corruption import channel, targets
from gan_denoise.corruption.noise import Procedure
from gan_denoise.corruption.rooms import Room, measured, simulate
from gan_denoise.corruption.scene_settings import SHARES, check_scenes
from gan_denoise.corruption.synthetic import SAMPLE_RATE, synthesise
from gan_denoise.corruption.whisper import whispered
from gan_denoise.errors import InputError
from gan_denoise.system.files import digest

_OCTAVES = 5  # that a filter spans, 250 Hz to 8 kHz: a knot each
_QUIET = 1e-9  # mean square below which a source is inaudible


@dataclass(frozen=True)
class Source:
    """Kinds of noise, each drawn as often as the others, as lists of recordings (T,) float32.

    weight: how often this source is drawn.
    """

    weight: float
    kinds: list[list[np.ndarray]]


class Speech(NamedTuple):
    """An utterance (T,) float32: what is damaged, and what the target is made from."""

    heard: np.ndarray
    target: np.ndarray


class Scenes:
    """What an experiment's `scenes:` draws: a clean and a noisy excerpt for every visit.

    options: the settings below. procedure: the data's fixed procedure. Raises InputError.

    shares: of noise, procedure, both, clean and (noise) alone. snr_db: [low, high]. sources: at
    most so many at once. recordings: list of {folder:, weight:, by_kind:}, where a kind is a file,
    or with by_kind all files of the same name before the first `_`; environment variables are
    filled in. held_out: kinds and files that are left out. synthetic: {weight:, kinds:}. babble:
    share of the sources that are several voices at once, voices: [fewest, most] of them. tilt_db,
    equaliser_db: filters of speech and of each source, at most so many dB over the octaves, and up
    and down in each. speed: [slowest, fastest]. band_limit: share of the visits that a narrower
    channel has passed.

    The rest may be left out. rooms: {share: of the visits, count: of rooms, folder: of measured
    responses, which come as often as the simulated ones, and the settings of rooms.py:
    rt60_s, distance_m, early_ms}. target: {high_pass_hz:, background_db:, quiet_first: visits of
    the quieter half of the recordings} (targets.py). rumble: {share: of the visits,
    snr_db:}. Shares of the visits: whisper (the speech has no voice), changes (the noise starts,
    stops and jumps), mutes, offset (DC), codec.
    """

    def __init__(
        self, options: Mapping, *, source: str, sample_rate: int, procedure: Procedure | None
    ):
        check_scenes(options, source)
        self._options, self._sample_rate, self._procedure = dict(options), sample_rate, procedure
        self._shares = np.array([options["shares"].get(name, 0.0) for name in SHARES])
        self._shares /= self._shares.sum()
        if procedure is None and self._shares[[1, 2]].any():
            raise InputError(
                f"{source}: shares: the noise came with the corpus: set procedure and both to 0"
            )
        self._sources = list(self._load(source))
        self._weights = np.array([part.weight for part in self._sources])
        if not self._sources and options["babble"] < 1.0 and self._shares[[0, 2]].any():
            raise InputError(
                f"{source}: has neither recordings nor synthetic noise: there is nothing to mix"
            )
        rooms = dict(options.get("rooms") or {})
        self._room_share = rooms.pop("share", 0.0)
        self._rooms: list[list[Room]] = []  # by room: positions in it
        self._codecs: list[channel.Codec] = []
        try:
            if self._room_share:
                self._rooms = _rooms(rooms, sample_rate)
            if options.get("codec"):
                self._codecs = [channel.Codec(name, sample_rate) for name in channel.CODECS]
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        if options.get("rumble"):
            wave = audio.resample(synthesise("rumble"), SAMPLE_RATE, sample_rate)
            self._rumble = wave.astype(np.float32)

    def _load(self, where: str) -> Iterator[Source]:
        held_out = set(self._options["held_out"])
        for entry in self._options["recordings"]:
            try:
                folder = _folder(entry["folder"])
            except InputError as error:
                raise InputError(f"{where}: recordings: {error}") from error
            kinds: dict[str, list[np.ndarray]] = {}
            for path in audio.find(folder):
                kind = path.stem.split("_")[0] if entry["by_kind"] else path.stem
                if not {kind, path.stem} & held_out:
                    samples, _ = audio.read_mono(path, sample_rate=self._sample_rate)
                    kinds.setdefault(kind, []).append(samples)
            if not kinds:
                raise InputError(f"{where}: recordings: {folder}: holds no recordings")
            yield Source(entry["weight"], list(kinds.values()))
        kinds = self._options["synthetic"]["kinds"]
        if kinds:
            waves = (
                audio.resample(synthesise(kind), SAMPLE_RATE, self._sample_rate) for kind in kinds
            )
            yield Source(
                self._options["synthetic"]["weight"], [[wave.astype(np.float32)] for wave in waves]
            )

    def fingerprint(self) -> str:
        """12 hexadecimal digits of the settings, the procedure and all recordings' samples."""
        content = [
            hashlib.sha256(wave.tobytes()).hexdigest()
            for part in self._sources
            for kind in part.kinds
            for wave in kind
        ]
        content += [
            hashlib.sha256(response.tobytes()).hexdigest()
            for positions in self._rooms
            for room in positions
            for response in room
        ]
        options = {key: value for key, value in self._options.items() if key != "recordings"}
        weights = [[part.weight, len(part.kinds)] for part in self._sources]
        procedure = self._procedure and self._procedure.fingerprint(self._sample_rate)
        return digest([options, weights, content, procedure, self._sample_rate])

    def prepare(self, utterance: np.ndarray) -> Speech:
        """An utterance (T,) float32 as `compose` needs it, the same at every visit."""
        target = self._options.get("target")
        if target is None:
            return Speech(utterance, utterance)
        heard = targets.high_pass(utterance, self._sample_rate, target["high_pass_hz"])
        lowered = targets.lower_background(heard, self._sample_rate, target["background_db"])
        return Speech(heard, lowered)

    @property
    def weighs(self) -> bool:
        """Whether an epoch visits some utterances more often than others."""
        return (self._options.get("target") or {}).get("quiet_first", 1) > 1

    def visits(self, utt_ids: Iterable[str], read: Callable[[str], np.ndarray]) -> list[str]:
        """List utt_ids as often as an epoch visits them.

        The half of the utterances with the deepest pauses comes `quiet_first` times, the others
        once. read: returns the samples (T,) of an utterance.
        """
        often = self._options["target"]["quiet_first"]
        depth_db = {
            utt_id: targets.pause_depth_db(read(utt_id), self._sample_rate) for utt_id in utt_ids
        }
        middle = float(np.median(list(depth_db.values())))
        return [
            utt_id
            for utt_id, depth in depth_db.items()
            for _ in range(often if depth >= middle else 1)
        ]

    def compose(
        self,
        speech: Speech,
        where: float,
        length: int,
        draw: np.random.Generator,
        visit: str,
        voice: Callable[[np.random.Generator], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw one scene around an excerpt: clean and noisy, (length,) float32 or shorter.

        speech: an utterance that `prepare` has made. where: 0 to 1, the excerpt's place in it.
        draw: the visit's random numbers. visit: a name for the procedure's draws. voice: draw ->
        samples of some training utterance. The procedure's STFT grid starts with the excerpt, as it
        does with a file.
        """
        options, kind = self._options, SHARES[int(draw.choice(len(SHARES), p=self._shares))]
        speed = draw.uniform(*options["speed"])
        utterance = speech.heard
        n_samples = min(len(utterance), int(length * speed))
        start = int(where * (len(utterance) - n_samples + 1))
        room = self._room(draw)
        lead = min(len(room.full), int(start / speed)) if room else 0  # reverberates into it
        span = slice(start - int(lead * speed), start + n_samples)
        noisy, clean = (wave[span] for wave in speech)
        if speed != 1.0:
            noisy, clean = (
                soxr.resample(wave, speed, 1.0, quality="MQ")[: lead + length]
                for wave in (noisy, clean)
            )
        if self._happens("whisper", draw):
            seed = draw.integers(2**32)
            noisy, clean = (
                whispered(wave, self._sample_rate, np.random.default_rng(seed))
                for wave in (noisy, clean)
            )
        excerpt = noisy[lead:]
        gains = self._filter(len(noisy), draw)
        noisy, clean = _through(noisy, gains), _through(clean, gains)
        if room:
            noisy, clean = _convolved(noisy, room.full)[lead:], _convolved(clean, room.early)[lead:]
        # The SNR rests on the level of the whole utterance after the filter, so that an excerpt
        # with pauses does not pass for quiet speech
        filtered = (np.mean(clean**2) + _QUIET) / (np.mean(excerpt**2) + _QUIET)
        power = np.mean(utterance**2) * filtered
        if kind == "alone":
            noisy, clean = np.zeros_like(noisy), np.zeros_like(clean)
        if kind in ("procedure", "both"):
            assert self._procedure is not None  # or they would have no share
            damaged = self._procedure.apply(noisy, visit, self._sample_rate, split="train")
            noisy = damaged.astype(np.float32)
        if kind in ("noise", "both", "alone"):
            noisy = noisy + self._around(len(noisy), power, room, draw, voice)
        return self._channel(clean, noisy, power, draw)

    def _around(
        self,
        length: int,
        power: float,
        room: Room | None,
        draw: np.random.Generator,
        voice: Callable,
    ) -> np.ndarray:
        """The noise around speech of mean square `power`: (length,)."""
        lead = len(room.noise) if room else 0
        noise = self._noise(lead + length, draw, voice)
        if room:
            noise = _convolved(noise, room.noise)[lead:]
        noise = _at_snr(noise, power, draw.uniform(*self._options["snr_db"]))
        if self._happens("changes", draw):
            noise = noise * channel.coming_and_going(length, self._sample_rate, draw)
        return noise

    def _channel(
        self, clean: np.ndarray, noisy: np.ndarray, power: float, draw: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the microphone and the channel behind it do to clean and noisy (T,).

        A narrower band, a codec and mutes change the target too: the model shall invent nothing.
        """
        length, rumble = len(noisy), self._options.get("rumble")
        if rumble and draw.random() < rumble["share"]:
            wave = _excerpt(self._rumble, length, draw)
            noisy = noisy + _at_snr(wave, power, draw.uniform(*rumble["snr_db"]))
        if self._happens("band_limit", draw):
            hz = _frequencies(length, self._sample_rate)
            band = channel.band_gains(hz, draw, lowest_hz=3000.0)
            clean, noisy = _through(clean, band), _through(noisy, band)
        if self._happens("offset", draw):
            size = np.sqrt(power) * 10.0 ** draw.uniform(-1.0, 0.7)
            noisy = noisy + np.float32(size * draw.choice([-1.0, 1.0]))
        if self._happens("codec", draw):
            codec, worse = self._codecs[draw.integers(len(self._codecs))], draw.random()
            clean, noisy = codec(clean, worse), codec(noisy, worse)
        if self._happens("mutes", draw):
            gains = channel.mutes(noisy, self._sample_rate, draw)
            clean, noisy = clean * gains, noisy * gains
        return clean, noisy

    def _happens(self, name: str, draw: np.random.Generator) -> bool:
        """Whether this visit has the effect whose share of the visits the option `name` gives."""
        share = self._options.get(name, 0.0)
        return share > 0.0 and bool(draw.random() < share)

    def _room(self, draw: np.random.Generator) -> Room | None:
        """The room of this visit, or None: outdoors."""
        if not self._rooms or draw.random() >= self._room_share:
            return None
        positions = self._rooms[draw.integers(len(self._rooms))]
        return positions[draw.integers(len(positions))] if len(positions) > 1 else positions[0]

    def _noise(self, length: int, draw: np.random.Generator, voice: Callable) -> np.ndarray:
        """One or more sources, each up to 10 dB quieter than the one before: (length,)."""
        total, level = np.zeros(length, np.float32), 1.0
        for _ in range(draw.integers(1, self._options["sources"] + 1)):
            if draw.random() < self._options["babble"]:
                wave = self._babble(length, draw, voice)
            else:
                shares = self._weights / self._weights.sum()
                part = self._sources[draw.choice(len(self._sources), p=shares)]
                kind = part.kinds[draw.integers(len(part.kinds))]
                wave = _excerpt(kind[draw.integers(len(kind))], length, draw)
            wave = _through(wave, self._filter(length, draw))
            total += np.float32(level) * wave / np.sqrt(np.mean(wave**2) + _QUIET)
            level *= 10 ** (-draw.uniform(0.0, 10.0) / 20)
        return total

    def _babble(self, length: int, draw: np.random.Generator, voice: Callable) -> np.ndarray:
        """Several voices at once, of similar level: (length,)."""
        fewest, most = self._options["voices"]
        voices = (
            _excerpt(voice(draw), length, draw) for _ in range(draw.integers(fewest, most + 1))
        )
        return sum(
            one / np.sqrt(np.mean(one**2) + _QUIET) * draw.uniform(0.3, 1.0) for one in voices
        )

    def _filter(self, length: int, draw: np.random.Generator) -> np.ndarray | None:
        """Gains of a random filter: a slope over all octaves, and a gain in each octave."""
        tilt, equaliser = self._options["tilt_db"], self._options["equaliser_db"]
        if not tilt and not equaliser:
            return None
        gains = draw.uniform(-tilt, tilt) * np.linspace(-0.5, 0.5, _OCTAVES + 1)
        gains = gains + draw.uniform(-equaliser, equaliser, _OCTAVES + 1)
        octave = np.log2(np.maximum(_frequencies(length, self._sample_rate), 1.0) / 250.0)
        return 10 ** (np.interp(octave, np.arange(_OCTAVES + 1), gains) / 20)


def _rooms(options: dict[str, Any], sample_rate: int) -> list[list[Room]]:
    """Simulated rooms and, equally often, measured ones, as lists of positions.

    Raises InputError.
    """
    named = options.pop("folder", None)
    rooms = [[room] for room in simulate(**options, sample_rate=sample_rate)]
    if named is None:
        return rooms
    measured_rooms = measured(_folder(named), early_ms=options["early_ms"], sample_rate=sample_rate)
    return rooms + measured_rooms * max(1, round(len(rooms) / len(measured_rooms)))


def _folder(named: str) -> Path:
    """The folder that a setting names, environment variables filled in. Raises InputError."""
    folder = Path(os.path.expandvars(named))
    if "$" in str(folder) or not folder.is_dir():
        raise InputError(f"{folder}: no such folder: name that of your recordings")
    return folder


def _excerpt(wave: np.ndarray, length: int, draw: np.random.Generator) -> np.ndarray:
    """A random part of a recording, which repeats where it is too short: (length,)."""
    if len(wave) < length:
        return np.resize(np.roll(wave, -draw.integers(len(wave))), length)
    start = draw.integers(len(wave) - length + 1)
    return wave[start : start + length]


def _padded(length: int) -> int:
    """A length at or above this one whose Fourier transform is fast."""
    return -(-length // 512) * 512


def _frequencies(length: int, sample_rate: int) -> np.ndarray:
    return np.fft.rfftfreq(_padded(length), 1.0 / sample_rate)


def _at_snr(noise: np.ndarray, power: float, snr_db: float) -> np.ndarray:
    """Noise (T,), scaled to an SNR beside speech of mean square `power`."""
    share = power / 10.0 ** (snr_db / 10.0) / (np.mean(noise**2) + _QUIET)
    return noise * np.float32(np.sqrt(share))


def _through(wave: np.ndarray, gains: np.ndarray | None) -> np.ndarray:
    """(T,) through a filter without phase; gains: at `_frequencies`, None: no filter."""
    if gains is None:
        return wave
    spectrum = np.fft.rfft(wave, n=_padded(len(wave))) * gains.astype(np.float32)
    return np.fft.irfft(spectrum, n=_padded(len(wave)))[: len(wave)].astype(np.float32)


def _convolved(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """(T,) in a room whose impulse response is (R,): (T,)."""
    length = _padded(len(wave) + len(response) - 1)
    spectrum = np.fft.rfft(wave, n=length) * np.fft.rfft(response, n=length)
    return np.fft.irfft(spectrum, n=length)[: len(wave)].astype(np.float32)
