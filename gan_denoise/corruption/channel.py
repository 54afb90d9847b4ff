"""What a recording may have passed before a denoiser gets it, as scenes draw it.

This is a channel with a narrower band, a codec, mutes, or noise that comes and goes.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import scipy  # its parts are imported where they are first used
import soundfile as sf

from gan_denoise.errors import InputError
from gan_denoise.system.files import undisturbed

# By soundfile's names of format and subtype
CODECS: dict[str, dict[str, Any]] = {
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
}
# Compression levels that are drawn from: 0 is the best quality, and libsndfile refuses 1 for MP3
_QUALITY, _WORST = (0.3, 1.0), 0.999
_FULL_SCALE = 0.5  # peak of the signal that an encoder gets


class Codec:
    """One of CODECS: encodes and decodes a wave, with the output aligned to the input.

    Raises InputError where this libsndfile lacks the codec.
    """

    def __init__(self, name: str, sample_rate: int):
        self._options, self._sample_rate = CODECS[name], sample_rate
        if self._options["subtype"] not in sf.available_subtypes(self._options["format"]):
            raise InputError(
                f"codec {name}: libsndfile {sf.__libsndfile_version__} has none: install a newer"
                " soundfile, or leave it out of scenes"
            )
        self._delay = 0
        probe = np.random.default_rng(0).standard_normal(2 * sample_rate).astype(np.float32)
        probe = 0.1 * scipy.ndimage.uniform_filter1d(probe, 5)
        heard = np.fft.rfft(self(probe, 0.0), n=2 * len(probe))
        likeness = np.fft.irfft(heard * np.conj(np.fft.rfft(probe, n=2 * len(probe))))
        lag = int(np.argmax(likeness))
        self._delay = lag if lag < len(probe) else lag - len(likeness)

    def __call__(self, wave: np.ndarray, worse: float) -> np.ndarray:
        """(T,) float32 -> same. worse: 0 to 1, from the best to the worst quality in use."""
        scale = _FULL_SCALE / max(float(np.abs(wave).max()), 1e-9)
        low, high = _QUALITY
        quality = min(low + (high - low) * worse, _WORST)
        file = io.BytesIO()
        options = self._options | {"compression_level": quality}
        with undisturbed():
            sf.write(file, wave * scale, self._sample_rate, **options)
            file.seek(0)
            decoded = sf.read(file, dtype="float32")[0] / np.float32(scale)
        aligned = decoded[max(0, self._delay) :]
        aligned = np.pad(aligned, (max(0, -self._delay), max(0, len(wave) - len(aligned))))
        return aligned[: len(wave)]


def band_gains(hz: np.ndarray, draw: np.random.Generator, *, lowest_hz: float) -> np.ndarray:
    """Gains (F,) of a channel with a narrower band, at the frequencies hz (F,).

    The band ends between `lowest_hz` and the highest of these frequencies, gently or as steeply as
    a resampler's or a codec's filter, and begins at 20 to 300 Hz.
    """
    low, high = draw.uniform(20.0, 300.0), draw.uniform(lowest_hz, 1.02 * hz[-1])
    order = 2 * round(np.exp(draw.uniform(np.log(2.0), np.log(1000.0))))
    attenuation = (low / np.maximum(hz, 1.0)) ** 8
    attenuation += np.exp(np.minimum(order * np.log(np.maximum(hz, 1.0) / high), 60.0))
    return 1.0 / np.sqrt(1.0 + attenuation)


def coming_and_going(length: int, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """Gains (T,) float32 of a noise that starts, stops or jumps one to three times."""
    borders = np.sort(draw.integers(0, length, draw.integers(1, 4)))
    levels = 10.0 ** (draw.uniform(-20.0, 6.0, len(borders) + 1) / 20.0)
    silent = draw.random(len(levels)) < 0.4
    levels[silent] = 0.0
    if silent.all():
        levels[draw.integers(len(levels))] = 1.0
    gains = np.repeat(levels, np.diff([0, *borders, length]))
    ramp = round(sample_rate * np.exp(draw.uniform(np.log(0.002), np.log(0.2))))
    return scipy.ndimage.uniform_filter1d(gains, max(1, ramp)).astype(np.float32)


def mutes(wave: np.ndarray, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """Gains (T,) float32, 0 or 1, that make parts of a recording (T,) digital silence.

    The parts are its beginning, its end, several places in it, or all that a noise gate takes for a
    pause.
    """
    length, kind = len(wave), draw.integers(4)
    gains = np.ones(length, np.float32)
    if kind == 0:
        gains[: round(sample_rate * draw.uniform(0.05, 1.3))] = 0.0
    elif kind == 1:
        gains[max(0, length - round(sample_rate * draw.uniform(0.05, 0.8))) :] = 0.0
    elif kind == 2:
        for start in draw.integers(0, length, draw.integers(1, 6)):
            duration_s = np.exp(draw.uniform(np.log(0.005), np.log(0.5)))
            gains[start : start + round(sample_rate * duration_s)] = 0.0
    else:
        envelope = scipy.ndimage.uniform_filter1d(np.abs(wave), max(1, sample_rate // 50))
        hold = round(sample_rate * draw.uniform(0.03, 0.25))
        loudest = scipy.ndimage.maximum_filter1d(envelope, max(1, hold))
        gains[loudest < np.quantile(loudest, draw.uniform(0.1, 0.6))] = 0.0
    return gains
