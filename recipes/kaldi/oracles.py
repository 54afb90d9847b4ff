"""Limits to compare with, made with the clean STFT at hand (Hann, 512/128 at 16 kHz)."""

from __future__ import annotations

import numpy as np

from gan_denoise import audio
from gan_denoise.signal.numpy_stft import istft, stft
from kaldi.stage import Piece

WINDOW_S, HOPS_PER_WINDOW = 0.032, 4
KINDS = ("magnitude", "mask")


def oracle(clean: np.ndarray, noisy: np.ndarray, sample_rate: int, kind: str) -> np.ndarray:
    """(T,), (T,) -> (T,): the STFT magnitude of the first at the phase of the second.

    kind "mask": the magnitude is at most that of the second, so nothing is amplified.
    """
    hop_length = round(WINDOW_S * sample_rate / HOPS_PER_WINDOW)
    n_fft = hop_length * HOPS_PER_WINDOW
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)
    spectrum, magnitude = stft(noisy, window, hop_length), np.abs(stft(clean, window, hop_length))
    if kind == "mask":
        magnitude = np.minimum(magnitude, np.abs(spectrum))
    return istft(magnitude * np.exp(1j * np.angle(spectrum)), window, hop_length, len(clean))


def write_one(piece: Piece, *, kind: str) -> None:
    clean, sample_rate = audio.read_mono(piece.sources[0], dtype="float64")
    noisy, _ = audio.read_mono(piece.sources[1], dtype="float64")
    audio.write_wav(piece.file, oracle(clean, noisy, sample_rate, kind), sample_rate)
