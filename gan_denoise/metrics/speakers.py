"""Similarity of voices by speaker embeddings that are made of MFCC statistics.

It is a baseline that needs no trained model, and it tells whether a voice survives. The embedding
is the average and the spread of the spectral envelope, so it reacts to colouration and residual
noise as well as to another voice. Compare systems with it on the same recordings rather than read
its value alone.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gan_denoise import audio

_BANDS, _COEFFICIENTS = 40, 20
_RANGE_DB = 30.0  # frames further below the loudest one count as pauses
_SHORTEST = 20  # frames
_HIGHEST_RATE = 16000


def embedding(wave: np.ndarray, sample_rate: int) -> np.ndarray | None:
    """(T,) -> (40,): statistics of MFCCs over the active frames.

    They are the mean and the standard deviation of 20 liftered MFCCs, without the one of the level.
    25 ms Hamming windows every 10 ms, 40 mel bands from 60 Hz to 7.6 kHz or 0.475 of the rate.
    Rates above 16 kHz are resampled to 16 kHz. None under 0.2 s of activity.
    """
    from scipy.fft import dct  # as long to import as all that most programs need of this package

    if sample_rate > _HIGHEST_RATE:  # pre-emphasis and activity would be others
        wave, sample_rate = audio.resample(wave, sample_rate, _HIGHEST_RATE), _HIGHEST_RATE
    length, hop = round(0.025 * sample_rate), round(0.01 * sample_rate)
    if len(wave) < length:
        return None
    emphasised = np.append(wave[0], wave[1:] - 0.97 * wave[:-1])
    power = np.square(
        np.abs(np.fft.rfft(sliding_window_view(emphasised, length)[::hop] * np.hamming(length)))
    )
    energy = power.sum(axis=1)
    active = energy > 10.0 ** (-_RANGE_DB / 10.0) * energy.max()
    if active.sum() < _SHORTEST:
        return None
    bands = power[active] @ _mel_filters(length, sample_rate).T
    cepstra = dct(np.log(np.maximum(bands, 1e-10 * bands.max())), axis=1, norm="ortho")[
        :, 1 : _COEFFICIENTS + 1
    ]
    # The lifter of HTK and Kaldi
    cepstra *= 1.0 + 11.0 * np.sin(np.pi * np.arange(1, _COEFFICIENTS + 1) / 22.0)
    return np.concatenate([cepstra.mean(axis=0), cepstra.std(axis=0)])


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of two embeddings: 1 where they are alike."""
    return float(one @ other / np.sqrt((one @ one) * (other @ other)))


def _mel_filters(length: int, sample_rate: int) -> np.ndarray:
    """(bands, bins): triangles that are evenly spaced in mel."""
    low, high = (
        2595.0 * np.log10(1.0 + hz / 700.0) for hz in (60.0, min(7600.0, 0.475 * sample_rate))
    )
    corners = 700.0 * (10.0 ** (np.linspace(low, high, _BANDS + 2) / 2595.0) - 1.0)
    bins = np.arange(length // 2 + 1) * sample_rate / length
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    return np.maximum(0.0, np.minimum(rising, falling))
