"""Whispers made from speech, for training.

Recordings of whispers are rare, and a denoiser that was trained without any takes them for noise. A
whisperer moves the mouth as always, but no vocal folds: a noise takes the place of the harmonics,
and little is left below the first formant (Ito et al., "Analysis and recognition of whispered
speech", 2005).
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported where they are first used

from gan_denoise.signal.numpy_stft import istft, stft

_WINDOW_S, _HOP_S = 0.032, 0.008
_SMOOTH_HZ = 120.0  # standard deviation: wider than a voice's harmonics, narrower than its formants
_LOW_HZ = 300.0, 900.0  # range of the corner below which a whisper falls off


def whispered(wave: np.ndarray, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """(T,) speech -> the same speech as a whisper, of the same RMS and type.

    The power of a short-time spectrum is smoothed over frequency until the harmonics are gone; its
    root then shapes white noise.
    """
    window = np.hanning(round(_WINDOW_S * sample_rate) + 1)[:-1]
    hop = round(_HOP_S * sample_rate)
    power = np.abs(stft(wave.astype(np.float64), window, hop)) ** 2
    bin_hz = sample_rate / len(window)
    envelope = np.sqrt(scipy.ndimage.gaussian_filter1d(power, _SMOOTH_HZ / bin_hz, axis=1))
    hz = bin_hz * np.arange(power.shape[1])
    corner, order = draw.uniform(*_LOW_HZ), draw.uniform(1.0, 3.0)
    shape = hz**order / (hz**order + corner**order)
    breath = stft(draw.standard_normal(len(wave)), window, hop)
    sound = istft(breath * envelope * shape, window, hop, len(wave))
    before, after = np.sqrt(np.mean(wave.astype(np.float64) ** 2)), np.sqrt(np.mean(sound**2))
    return (sound * (before / max(after, 1e-12))).astype(wave.dtype)
