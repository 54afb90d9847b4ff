"""The metrics: values that are known, and those of other implementations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.linalg import solve_toeplitz

from conftest import speech_like
from gan_denoise import metrics
from gan_denoise.metrics import Signals, quality, speakers


def signals(enhanced: Any, clean: Any = None, noisy: Any = None) -> Signals:
    clean = speech_like(0, 2.0) if clean is None else clean
    return Signals(clean, enhanced, noisy, 16000)


def test_si_sdr_knows_its_values() -> None:
    time_s = np.arange(16000) / 16000
    sine, cosine = np.sin(2 * np.pi * 100 * time_s), np.cos(2 * np.pi * 100 * time_s)
    assert metrics.si_sdr(signals(sine + 0.1 * cosine, sine)) == pytest.approx(20.0, abs=1e-6)
    assert metrics.si_sdr(signals(5.0 * (sine + 0.1 * cosine) + 0.3, sine)) == pytest.approx(
        20.0, abs=1e-6
    )
    assert metrics.si_sdr(signals(sine, sine)) == 100.0
    assert metrics.si_sdr(signals(cosine, sine)) == -100.0


def test_wsdr_knows_its_values() -> None:
    clean = speech_like(0)
    noise = np.random.default_rng(0).standard_normal(len(clean)) / 10
    noisy = clean + noise
    assert metrics.wsdr(signals(clean, clean, noisy)) == pytest.approx(-1.0)
    share = (clean @ clean) / (clean @ clean + noise @ noise)
    cosine = clean @ noisy / np.sqrt((clean @ clean) * (noisy @ noisy))
    assert metrics.wsdr(signals(noisy, clean, noisy)) == pytest.approx(-share * cosine)
    with pytest.raises(metrics.Unscorable, match="needs the noisy signal"):
        metrics.wsdr(signals(clean, clean))


def test_pesq_takes_its_arguments_in_the_right_order() -> None:
    import pesq

    clean = speech_like(0, 2.0)
    noisy = clean + np.random.default_rng(0).standard_normal(len(clean)) / 50
    score = metrics.pesq_wb(signals(noisy, clean))
    assert score == pytest.approx(
        pesq.pesq(16000, clean.astype(np.float32), noisy.astype(np.float32), "wb")
    )
    assert metrics.pesq_wb(signals(clean, clean)) == pytest.approx(4.64, abs=0.01)
    assert 1.0 < score < 3.0


def noisy_pair(rate: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    clean = speech_like(0, 2.0, rate) + 1e-3 * draw.standard_normal(2 * rate)
    return clean, clean + 0.02 * draw.standard_normal(2 * rate)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (16000, (2.5558044268, 0.3119320264, 17.7264669061)),
        (8000, (2.5661145247, 0.1415679304, 18.5490980675)),
    ],
)
def test_the_composites_parts_agree_with_another_implementation(
    rate: int, expected: tuple[Any, ...]
) -> None:
    """segSNR, LLR (not limited) and WSS by the package pysepm-evo 0.1.1 on the same pair."""
    pair = (*noisy_pair(rate), rate)
    parts = (
        quality.segmental_snr(*pair),
        quality.log_likelihood_ratio(*pair),
        quality.weighted_spectral_slope(*pair),
    )
    assert parts == pytest.approx(expected, abs=1e-6)


def test_the_composite_is_hu_and_loizous_regression() -> None:
    clean, enhanced = noisy_pair(16000)
    pair = Signals(clean, enhanced, None, 16000)
    pesq, (snr, llr, wss) = metrics.pesq_wb(pair), (2.5558044268, 0.3119320264, 17.7264669061)
    scores = [metrics.METRICS[name].function(pair) for name in ("csig", "cbak", "covl")]
    assert scores[0] == pytest.approx(3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss, abs=1e-5)
    assert scores[1] == pytest.approx(1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * snr, abs=1e-5)
    assert scores[2] == pytest.approx(1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss, abs=1e-5)
    best = Signals(clean, clean, None, 16000)
    assert [metrics.METRICS[name].function(best) for name in ("csig", "cbak", "covl")] == [
        5.0,
        5.0,
        5.0,
    ]


def test_sdr_is_the_projection_onto_all_filters_of_512_taps() -> None:
    """BSSEval's definition, solved anew, gives the same SDR.

    Levinson's recursion solves the Toeplitz system of the normal equations.
    """
    clean, enhanced = noisy_pair(16000)
    spectra = [np.fft.rfft(wave, 2**16) for wave in (clean, enhanced)]
    lags = np.fft.irfft(np.abs(spectra[0]) ** 2)[:512]
    cross = np.fft.irfft(spectra[0].conj() * spectra[1])[:512]
    explained = solve_toeplitz(lags, cross) @ cross
    expected = 10 * np.log10(explained / (enhanced @ enhanced - explained))
    assert metrics.sdr(signals(enhanced, clean)) == pytest.approx(expected, abs=1e-6)
    assert metrics.sdr(signals(0.3 * clean, clean)) == 100.0
    with pytest.raises(metrics.Unscorable, match="shorter than twice"):
        metrics.sdr(signals(clean[:1000], clean[:1000]))


def test_log_spectral_distance_knows_its_values() -> None:
    clean, _ = noisy_pair(16000)
    assert quality.log_spectral_distance(clean, clean, 16000) == 0.0
    assert quality.log_spectral_distance(clean, 10.0 * clean, 16000) == pytest.approx(
        20.0, abs=0.01
    )  # all but silent edges
    assert quality.log_spectral_distance(clean, 0.0 * clean, 16000) < 100.0


def test_speaker_similarity_hears_the_envelope_and_not_the_level() -> None:
    clean, _ = noisy_pair(16000)
    embedding, quieter = (speakers.embedding(gain * clean, 16000) for gain in (1.0, 0.01))
    assert embedding is not None and quieter is not None and embedding.shape == (40,)
    assert speakers.similarity(embedding, quieter) == pytest.approx(1.0, abs=1e-6)
    duller = np.convolve(clean, np.hanning(9) / 5, "same")
    assert metrics.speaker_similarity(signals(duller, clean)) < 0.95
    assert speakers.embedding(clean[:2000], 16000) is None


def test_narrow_band_pesq_is_the_packages() -> None:
    import pesq

    for rate in (16000, 8000):
        clean, enhanced = (wave.astype(np.float32) for wave in noisy_pair(rate))
        score = metrics.pesq_nb(Signals(clean, enhanced, None, rate))
        assert score == pytest.approx(pesq.pesq(rate, clean, enhanced, "nb"))
    with pytest.raises(metrics.Unscorable, match="WB-PESQ needs 16000 Hz, this is 8000 Hz"):
        metrics.pesq_wb(Signals(clean, enhanced, None, 8000))
