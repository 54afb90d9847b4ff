"""Scenes: what surrounds a training segment, drawn anew at every visit.

An excerpt of clean speech may be played faster or slower and through another filter (these change
the target too); then comes noise, several sources at once, each through a filter of its own, at an
SNR drawn from a range; or the data's fixed procedure; both; or nothing. A visit may also be limited
to a band, as on a telephone, or take place in a room, of which the target keeps the early
reflections. `Segments` asks for one scene a visit; an experiment's `scenes:`
describes them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from gan_denoise import audio
from gan_denoise.config import check_interval, check_keys, check_number
from gan_denoise.errors import InputError
from gan_denoise.files import digest
from gan_denoise.noise import Procedure
from gan_denoise.rooms import LONGEST_S, Room, simulate
from gan_denoise.synthetic import SAMPLE_RATE, check_kind, synthesise

SHARES = ("noise", "procedure", "both", "clean")
# Their highest values; 0 switches off
_NUMBERS = {"tilt_db": 40.0, "equaliser_db": 40.0, "band_limit": 1.0, "babble": 1.0}
_LISTS = ("recordings", "held_out")
_KEYS = (*_NUMBERS, *_LISTS, "shares", "snr_db", "sources", "voices", "speed", "synthetic")
_ROOMS = ("share", "count", "rt60_s", "distance_m", "early_ms")
_OCTAVES = 5  # of a filter, 250 Hz to 8 kHz: a knot each
_QUIET = 1e-9  # mean square of a source that cannot be heard


@dataclass(frozen=True)
class Source:
    """Kinds of noise, of which each comes as often, as lists of recordings (T,) float32.

    weight: how often this source is drawn.
    """

    weight: float
    kinds: list[list[np.ndarray]]


class Scenes:
    """options: an experiment's `scenes:`. procedure: the data's fixed one. voice: draw -> samples
    of some training utterance.

    Keys. shares: of noise, procedure, both and clean. snr_db: [low, high]. sources: at most so many
    at once. recordings: list of {folder:, weight:, by_kind:}, where kinds are files, or what they
    share before the first `_`; environment variables are filled in. held_out: kinds and files that
    are left out. synthetic: {weight:, kinds:}. babble: share of the sources that are several voices
    at once, voices: [fewest, most] of them. tilt_db, equaliser_db: filters of speech and of each
    source, at most so many dB over the octaves, and up and down in each. speed: [slowest, fastest].
    band_limit: share of the visits. rooms (none where it is missing): {share: of the visits, count:
    of rooms, and what gan_denoise/rooms.py is told: rt60_s, distance_m, early_ms}. Raises
    InputError.
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
            raise InputError(f"{source}: neither recordings nor synthetic: there is nothing to mix")
        rooms = dict(options.get("rooms") or {})
        self._room_share, self._rooms = rooms.pop("share", 0.0), []
        if self._room_share:
            try:
                self._rooms = simulate(**rooms, sample_rate=sample_rate)
            except InputError as error:
                raise InputError(f"{source}: {error}") from error

    def _load(self, where: str) -> Iterator[Source]:
        held_out = set(self._options["held_out"])
        for entry in self._options["recordings"]:
            folder = Path(os.path.expandvars(entry["folder"]))
            if "$" in str(folder) or not folder.is_dir():
                raise InputError(
                    f"{where}: recordings: {folder}: no such folder: name that of your noise"
                )
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
        """12 hexadecimal digits for the settings, the procedure and the samples of all
        recordings."""
        content = [
            hashlib.sha256(wave.tobytes()).hexdigest()
            for part in self._sources
            for kind in part.kinds
            for wave in kind
        ]
        content += [
            hashlib.sha256(response.tobytes()).hexdigest()
            for room in self._rooms
            for response in room
        ]
        options = {key: value for key, value in self._options.items() if key != "recordings"}
        weights = [[part.weight, len(part.kinds)] for part in self._sources]
        procedure = self._procedure and self._procedure.fingerprint(self._sample_rate)
        return digest([options, weights, content, procedure, self._sample_rate])

    def compose(
        self,
        utterance: np.ndarray,
        where: float,
        length: int,
        draw: np.random.Generator,
        visit: str,
        voice: Callable[[np.random.Generator], np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """An excerpt of an utterance (T,), and what is heard of it: clean and noisy, (length,)
        float32 or shorter.

        where: 0 to 1, the excerpt's place. visit: a name for the procedure's draws. The procedure's
        grid starts with the excerpt, as it does with a file.
        """
        options, kind = self._options, SHARES[int(draw.choice(len(SHARES), p=self._shares))]
        speed = draw.uniform(*options["speed"])
        wanted = min(len(utterance), int(length * speed))
        start = int(where * (len(utterance) - wanted + 1))
        room = self._room(draw)
        lead = min(len(room.full), int(start / speed)) if room else 0  # what reverberates into it
        excerpt = utterance[start - int(lead * speed) : start + wanted]
        if speed != 1.0:
            excerpt = soxr.resample(excerpt, speed, 1.0, quality="MQ")[: lead + length]
        clean = noisy = self._filtered(excerpt, draw)
        if room:
            clean, noisy = (_convolved(clean, own)[lead:] for own in (room.early, room.full))
            excerpt = excerpt[lead:]
        band = self._band(len(clean), draw) if draw.random() < options["band_limit"] else None
        if band is not None:
            clean, noisy = _through(clean, band), _through(noisy, band)
        if kind in ("procedure", "both"):
            assert self._procedure is not None  # or they would have no share
            damaged = self._procedure.apply(noisy, visit, self._sample_rate, split="train")
            noisy = damaged.astype(np.float32)
        if kind in ("noise", "both"):
            lead = len(room.noise) if room else 0
            noise = self._noise(lead + len(clean), draw, voice)
            if room:
                noise = _convolved(noise, room.noise)[lead:]
            if band is not None:
                noise = _through(noise, band)
            # Pauses do not make speech quiet: the level of the utterance counts, as far as the
            # filter left it
            filtered = (np.mean(clean**2) + _QUIET) / (np.mean(excerpt**2) + _QUIET)
            snr = 10 ** (draw.uniform(*options["snr_db"]) / 10)
            power = np.mean(utterance**2) * filtered / snr
            noisy = noisy + noise * np.float32(np.sqrt(power / (np.mean(noise**2) + _QUIET)))
        return clean, noisy

    def _room(self, draw: np.random.Generator) -> Room | None:
        """Where this visit takes place; None: in the open."""
        if not self._rooms or draw.random() >= self._room_share:
            return None
        return self._rooms[draw.integers(len(self._rooms))]

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
            wave = self._filtered(wave, draw)
            total += np.float32(level) * wave / np.sqrt(np.mean(wave**2) + _QUIET)
            level *= 10 ** (-draw.uniform(0.0, 10.0) / 20)
        return total

    def _babble(self, length: int, draw: np.random.Generator, voice: Callable) -> np.ndarray:
        """Several voices at once, of much the same level: (length,)."""
        fewest, most = self._options["voices"]
        voices = (
            _excerpt(voice(draw), length, draw) for _ in range(draw.integers(fewest, most + 1))
        )
        return sum(
            one / np.sqrt(np.mean(one**2) + _QUIET) * draw.uniform(0.3, 1.0) for one in voices
        )

    def _filtered(self, wave: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Through a random filter: a slope over all octaves, and a gain in each."""
        tilt, equaliser = self._options["tilt_db"], self._options["equaliser_db"]
        if not tilt and not equaliser:
            return wave
        gains = draw.uniform(-tilt, tilt) * np.linspace(-0.5, 0.5, _OCTAVES + 1)
        gains = gains + draw.uniform(-equaliser, equaliser, _OCTAVES + 1)
        octave = np.log2(np.maximum(_frequencies(len(wave), self._sample_rate), 1.0) / 250.0)
        return _through(wave, 10 ** (np.interp(octave, np.arange(_OCTAVES + 1), gains) / 20))

    def _band(self, length: int, draw: np.random.Generator) -> np.ndarray:
        """What lets a band pass, from up to 300 Hz to 3 kHz or more."""
        hz = _frequencies(length, self._sample_rate)
        low, high = draw.uniform(20.0, 300.0), draw.uniform(3000.0, 0.5 * self._sample_rate)
        return 1.0 / np.sqrt((1.0 + (low / np.maximum(hz, 1.0)) ** 8) * (1.0 + (hz / high) ** 40))


def check_scenes(options: Any, where: str) -> None:
    """Refuse an unknown, missing or impossible setting."""
    check_keys(options, (*_KEYS, "rooms"), where)
    for key in _KEYS:
        if key not in options:
            raise InputError(f'{where}: "{key}" is missing')
    check_keys(options["shares"], SHARES, f"{where}: shares")
    for name, share in options["shares"].items():
        check_number(share, f"{where}: shares: {name}", low=0.0)
    if not any(options["shares"].values()):
        raise InputError(f"{where}: shares: none is above 0")
    for key, high in _NUMBERS.items():
        check_number(options[key], f"{where}: {key}", low=0.0, high=high)
    check_number(options["sources"], f"{where}: sources", low=1, whole=True)
    check_interval(options["snr_db"], f"{where}: snr_db", low=-100.0, high=100.0)
    check_interval(options["speed"], f"{where}: speed", low=0.25, high=4.0)
    if options.get("rooms") is not None:
        _check_rooms(options["rooms"], f"{where}: rooms")
    for voices in check_interval(options["voices"], f"{where}: voices"):
        check_number(voices, f"{where}: voices", low=1, whole=True)
    for key in _LISTS:
        if not isinstance(options[key], list):
            raise InputError(f"{where}: {key}: expected a list, found {options[key]!r}")
    for entry in options["recordings"]:
        check_keys(entry, ("folder", "weight", "by_kind"), f"{where}: recordings")
        if not isinstance(entry.get("folder"), str) or not isinstance(entry.get("by_kind"), bool):
            wanted = "{folder: DIR, weight: 1.0, by_kind: false}"
            raise InputError(f"{where}: recordings: expected {wanted}, found {entry}")
        check_number(entry.get("weight"), f"{where}: recordings: weight", low=1e-6)
    check_keys(options["synthetic"], ("weight", "kinds"), f"{where}: synthetic")
    check_number(options["synthetic"].get("weight"), f"{where}: synthetic: weight", low=1e-6)
    for kind in options["synthetic"].get("kinds", ()):
        check_kind(kind, where)


def _check_rooms(options: Any, where: str) -> None:
    check_keys(options, _ROOMS, where)
    for key in _ROOMS:
        if key not in options:
            raise InputError(f'{where}: "{key}" is missing')
    check_number(options["share"], f"{where}: share", low=0.0, high=1.0)
    check_number(options["count"], f"{where}: count", low=1, whole=True)
    check_interval(options["rt60_s"], f"{where}: rt60_s", low=0.05, high=LONGEST_S)
    check_interval(options["distance_m"], f"{where}: distance_m", low=0.1, high=7.0)
    check_number(options["early_ms"], f"{where}: early_ms", low=0.0, high=1000.0)


def _excerpt(wave: np.ndarray, length: int, draw: np.random.Generator) -> np.ndarray:
    """A random part of a recording, which repeats where it is too short: (length,)."""
    if len(wave) < length:
        return np.resize(np.roll(wave, -draw.integers(len(wave))), length)
    start = draw.integers(len(wave) - length + 1)
    return wave[start : start + length]


def _padded(length: int) -> int:
    """A length whose Fourier transform is quick."""
    return -(-length // 512) * 512


def _frequencies(length: int, sample_rate: int) -> np.ndarray:
    return np.fft.rfftfreq(_padded(length), 1.0 / sample_rate)


def _through(wave: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """(T,) through a filter without phase; gains: at `_frequencies`."""
    spectrum = np.fft.rfft(wave, n=_padded(len(wave))) * gains.astype(np.float32)
    return np.fft.irfft(spectrum, n=_padded(len(wave)))[: len(wave)].astype(np.float32)


def _convolved(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """(T,) in a room whose response is (R,): (T,)."""
    length = _padded(len(wave) + len(response) - 1)
    spectrum = np.fft.rfft(wave, n=length) * np.fft.rfft(response, n=length)
    return np.fft.irfft(spectrum, n=length)[: len(wave)].astype(np.float32)
