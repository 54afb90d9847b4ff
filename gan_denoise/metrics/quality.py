"""Frame-wise distances of enhanced from clean speech, and Hu and Loizou's composite ratings.

The composite ratings are made from the distances.

Y. Hu and P. C. Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE
TASLP 16(1), 2008. Where the paper is silent, choices are those of the authors' own MATLAB code
(with Loizou's "Speech Enhancement", 2nd edition), which published figures rest on: 30 ms frames
every 7.5 ms, the last whole frame unused, 2.2e-16 added to both signals, the worst 5 % of the
frames left out of LLR and WSS, LLR not limited inside the composite, and at 16 kHz wide-band PESQ
(MOS-LQO) in place of the paper's narrow-band PESQ.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_EPSILON = np.finfo(np.float64).eps
_KEPT = 0.95
# Klatt's critical bands: centre frequency and bandwidth in Hz
_BANDS_HZ = np.array(
    [
        (50.0, 70.0), (120.0, 70.0), (190.0, 70.0), (260.0, 70.0),
        (330.0, 70.0), (400.0, 70.0), (470.0, 70.0), (540.0, 77.3724),
        (617.372, 86.0056), (703.378, 95.3398), (798.717, 105.411), (904.128, 116.256),
        (1020.38, 127.914), (1148.30, 140.423), (1288.72, 153.823), (1442.54, 168.154),
        (1610.70, 183.457), (1794.16, 199.776), (1993.93, 217.153), (2211.08, 235.631),
        (2446.71, 255.255), (2701.97, 276.072), (2978.04, 298.126), (3276.17, 321.465),
        (3597.63, 346.136),
    ]
)  # fmt: skip


def frames(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(T,) -> (N, L): windowed frames of 30 ms, every 7.5 ms.

    There are none where the signal has fewer than two whole frames.
    """
    length = round(0.03 * sample_rate)
    hop = int(0.25 * 0.03 * sample_rate)
    window = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(1, length + 1) / (length + 1)))
    if len(wave) < length + hop:
        return np.zeros((0, length))
    return sliding_window_view(wave, length)[::hop][: (len(wave) - length) // hop] * window


def segmental_snr(clean: np.ndarray, enhanced: np.ndarray, sample_rate: int) -> float:
    """Mean over frames of the SNR in dB, each within -10 to 35 dB; not a number without frames."""
    clean, error = frames(clean, sample_rate), frames(clean - enhanced, sample_rate)
    ratio = np.square(clean).sum(axis=1) / (np.square(error).sum(axis=1) + _EPSILON)
    return _mean(np.clip(10.0 * np.log10(ratio + _EPSILON), -10.0, 35.0))


def log_likelihood_ratio(clean: np.ndarray, enhanced: np.ndarray, sample_rate: int) -> float:
    """LLR of the two signals' linear predictors, of order 10 below 10 kHz and 16 from there on."""
    order = 10 if sample_rate < 10000 else 16
    clean_lags, clean_predictor = _linear_prediction(frames(clean + _EPSILON, sample_rate), order)
    _, predictor = _linear_prediction(frames(enhanced + _EPSILON, sample_rate), order)
    place = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    covariance = clean_lags[:, place]  # Toeplitz
    residual, least = (
        np.einsum("ni,nij,nj->n", coefficients, covariance, coefficients)
        for coefficients in (predictor, clean_predictor)
    )
    ratio = residual / least
    return _trimmed_mean(np.log(np.where(ratio > 0.0, ratio, 1000.0)))


def _linear_prediction(framed: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, L) -> autocorrelation (N, order + 1) and predictor (1, -a1, ...).

    The predictor comes from the Levinson-Durbin recursion.
    """
    length = framed.shape[1]
    lags = np.stack(
        [(framed[:, : length - lag] * framed[:, lag:]).sum(axis=1) for lag in range(order + 1)],
        axis=1,
    )
    predictor = np.zeros_like(lags)
    predictor[:, 0] = 1.0
    error = lags[:, 0].copy()
    for step in range(1, order + 1):
        reflection = -(predictor[:, :step] * lags[:, step:0:-1]).sum(axis=1) / error
        predictor[:, 1 : step + 1] += reflection[:, None] * predictor[:, step - 1 :: -1][:, :step]
        error *= 1.0 - reflection**2
    return lags, predictor


def weighted_spectral_slope(clean: np.ndarray, enhanced: np.ndarray, sample_rate: int) -> float:
    """WSS distance (Klatt 1982) of enhanced from clean speech.

    It is made of the squared differences of the slopes between critical bands, with more weight
    near spectral peaks.
    """
    levels = [
        _band_levels(frames(wave + _EPSILON, sample_rate), sample_rate)
        for wave in (clean, enhanced)
    ]
    slopes = [np.diff(level, axis=1) for level in levels]
    weights = [_slope_weight(level, slope) for level, slope in zip(levels, slopes, strict=True)]
    weight = (weights[0] + weights[1]) / 2.0
    distance = (weight * (slopes[0] - slopes[1]) ** 2).sum(axis=1) / weight.sum(axis=1)
    return _trimmed_mean(distance)


def _band_levels(framed: np.ndarray, sample_rate: int) -> np.ndarray:
    """(N, L) -> (N, 25): level of every critical band in dB, at least -100."""
    size = 2 ** int(np.ceil(np.log2(2 * framed.shape[1])))
    power = np.square(np.abs(np.fft.rfft(framed, size)[:, :-1]))
    centre, width = (_BANDS_HZ * size / sample_rate).T
    filters = np.exp(
        -11.0 * ((np.arange(size // 2) - np.floor(centre)[:, None]) / width[:, None]) ** 2
    )
    filters *= (width[0] / width)[:, None]
    filters[filters <= np.exp(-30.0 / (2.0 * 2.303))] = 0.0
    return np.maximum(10.0 * np.log10(np.maximum(power @ filters.T, 1e-300)), -100.0)


def _slope_weight(level: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Klatt's weight of every slope.

    It is large near the loudest band, and near the peak to which the slope leads.
    """
    rising = slope > 0.0
    bands = slope.shape[1]
    peak = level[:, :-1].copy()
    for band in range(bands - 2, -1, -1):  # upwards, as far as it rises
        climbs = rising[:, band] & rising[:, band + 1]
        peak[climbs, band] = peak[climbs, band + 1]
    for band in range(1, bands):  # downwards, as far as it falls
        falls = ~rising[:, band] & ~rising[:, band - 1]
        peak[falls, band] = peak[falls, band - 1]
    loudest = level.max(axis=1, keepdims=True)
    return 20.0 / (20.0 + loudest - level[:, :-1]) / (1.0 + peak - level[:, :-1])


def composite(
    clean: np.ndarray, enhanced: np.ndarray, sample_rate: int, pesq: float
) -> tuple[float, float, float]:
    """CSIG, CBAK and COVL, 1 to 5: predicted ratings of listeners.

    They rate the distortion of the signal, the background, and the whole.
    """
    llr = log_likelihood_ratio(clean, enhanced, sample_rate)
    wss = weighted_spectral_slope(clean, enhanced, sample_rate)
    snr = segmental_snr(clean, enhanced, sample_rate)
    ratings = np.array(
        [
            3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss,
            1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * snr,
            1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss,
        ]
    )
    csig, cbak, covl = np.clip(ratings, 1.0, 5.0)
    return float(csig), float(cbak), float(covl)


def log_spectral_distance(
    clean: np.ndarray, enhanced: np.ndarray, sample_rate: int, lowest_hz: float = 0.0
) -> float:
    """LSD in dB (Gray and Markel 1976): the mean over frames of a log-spectral distance.

    The distance of a frame is the RMS difference of the two log power spectra. The window is a
    periodic Hann window of 32 ms, every 8 ms, centred. Powers are at least 100 dB below the clean
    signal's loudest bin. lowest_hz: bins below it do not count.
    """
    length, hop = round(0.032 * sample_rate), round(0.008 * sample_rate)
    window = 0.5 * (1.0 - np.cos(2.0 * np.pi * np.arange(length) / length))
    padded = [np.pad(wave, length // 2) for wave in (clean, enhanced)]
    powers = [
        np.square(np.abs(np.fft.rfft(sliding_window_view(wave, length)[::hop] * window)))
        for wave in padded
    ]
    floor = 1e-10 * powers[0].max()
    first = math.ceil(lowest_hz * length / sample_rate)
    levels = [10.0 * np.log10(np.maximum(power, floor))[:, first:] for power in powers]
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=1)).mean())


def _trimmed_mean(values: np.ndarray) -> float:
    return _mean(np.sort(values)[: round(_KEPT * len(values))])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
