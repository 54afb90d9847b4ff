"""The target of a denoiser: clean speech without the rumble and the hiss of its recording.

A clean recording is not silent between words, and has rumble below the voice. A model that has to
keep both also learns to keep similar noise elsewhere. So the target of a training segment
(scenes.py) is the recording through `high_pass`, with its background lowered by
`lower_background`; `gan-denoise score --high-pass` filters the clean side of a comparison in the
same way.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported where they are first used: signal takes 0.7 s

from gan_denoise.signal.numpy_stft import istft, stft

HIGH_PASS_HZ = 60.0  # the lowest voices speak at some 75 Hz
_ORDER = 4  # of a Butterworth filter, applied both ways: -6 dB at its edge, -28 dB at 2/3 of it
_WINDOW_S, _HOP_S = 0.032, 0.008
_FLOOR = 0.1  # this quantile of a bin's power over time is taken for its background
_SPEECH_DB = 7.0, 15.0  # above the background: fully lowered below the first, kept above the second
_HANG_FRAMES, _HANG_BINS = 13, 5  # extent of what is kept around speech: word ends, breaths


def high_pass(wave: np.ndarray, sample_rate: int, hz: float = HIGH_PASS_HZ) -> np.ndarray:
    """(T,) samples at `sample_rate` Hz -> the same without what is below `hz`, no phase moved.

    The filter is a Butterworth filter of order 4, forwards and backwards: -6 dB at `hz`, and where
    `hz` is 60, -0.1 dB at 100 Hz and -48 dB at 30 Hz. The type of the samples stays.
    """
    sections = scipy.signal.butter(_ORDER, hz, "highpass", fs=sample_rate, output="sos")
    padding = min(len(wave) - 1, round(4 * sample_rate / hz))  # reflected, so that DC has no step
    filtered = scipy.signal.sosfiltfilt(sections, wave.astype(np.float64), padlen=padding)
    return filtered.astype(wave.dtype)


def lower_background(wave: np.ndarray, sample_rate: int, by_db: float) -> np.ndarray:
    """(T,) clean speech -> the same, its steady background `by_db` dB quieter between words.

    The bins of a spectrogram are treated one by one. The tenth quietest frame of a frequency tells
    its background. Bins 15 dB above the background are kept, and so is what lies within 50 ms and
    60 Hz of them. So the ends of words and breaths stay, and a recording that is silent between
    words stays as it is.
    """
    length, hop = round(_WINDOW_S * sample_rate), round(_HOP_S * sample_rate)
    if len(wave) < 4 * length:  # too short to tell speech from background
        return wave
    window = np.sqrt(scipy.signal.get_window("hann", length))
    spectrum = stft(wave.astype(np.float64), window, hop)
    power = scipy.ndimage.uniform_filter(np.abs(spectrum) ** 2, size=3).clip(1e-12)
    background = np.quantile(power, _FLOOR, axis=0, keepdims=True)
    low, high = _SPEECH_DB
    speech = np.clip((10.0 * np.log10(power / background) - low) / (high - low), 0.0, 1.0)
    speech = scipy.ndimage.maximum_filter(speech, size=(_HANG_FRAMES, _HANG_BINS))
    speech = scipy.ndimage.uniform_filter1d(speech, 5, axis=0)
    gain = 10.0 ** (by_db * (speech - 1.0) / 20.0)
    return istft(spectrum * gain, window, hop, len(wave)).astype(wave.dtype)


def pause_depth_db(wave: np.ndarray, sample_rate: int) -> float:
    """How far the quietest tenth of the 20 ms frames of (T,) samples lies below the loudest, dB."""
    length = sample_rate // 50
    if len(wave) < 10 * length:
        return 0.0
    frames = wave[: len(wave) // length * length].reshape(-1, length)
    quiet, loud = np.quantile(np.mean(frames.astype(np.float64) ** 2, axis=1), (0.1, 0.9))
    return float(10.0 * np.log10((loud + 1e-12) / (quiet + 1e-12)))
