"""Metrics of one utterance. One that cannot be computed raises Unscorable with the reason, and is
never replaced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from gan_denoise import audio, quality, speakers

_STOI_FRAME_S = 0.0256  # 256 samples at its 10 kHz
LIMIT_DB = 100.0  # of SI-SDR and SDR, both ways


class Unscorable(Exception):
    """This metric has no value for this pair; the message says why."""


@dataclass(frozen=True, eq=False)  # compared, and remembered, by identity
class Signals:
    """What a metric sees: mono float64 samples (T,) of equal length; noisy only where it was
    given.
    """

    clean: np.ndarray
    enhanced: np.ndarray
    noisy: np.ndarray | None
    sample_rate: int


def si_sdr(signals: Signals) -> float:
    """Scale-invariant SDR in dB (Le Roux et al. 2019, eq. 3), of zero-mean signals, within +-100
    dB.
    """
    clean, enhanced = (
        signals.clean - signals.clean.mean(),
        signals.enhanced - signals.enhanced.mean(),
    )
    if not clean.any() or not enhanced.any():
        raise Unscorable("a constant signal has no SI-SDR")
    target = (enhanced @ clean) / (clean @ clean) * clean
    distortion = enhanced - target
    floor = 10.0 ** (-LIMIT_DB / 10.0)
    ratio = max(target @ target, floor * (enhanced @ enhanced)) / max(
        distortion @ distortion, floor * (target @ target)
    )
    return float(np.clip(10.0 * np.log10(ratio), -LIMIT_DB, LIMIT_DB))


def wsdr(signals: Signals) -> float:
    """Weighted SDR (Choi et al. 2019, eq. 7), with the loss's sign: -1 is best. Needs the noisy
    signal.
    """
    if signals.noisy is None:
        raise Unscorable("needs the noisy signal")
    clean, noise, estimate = (
        signals.clean,
        signals.noisy - signals.clean,
        signals.noisy - signals.enhanced,
    )

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        norms = np.sqrt((a @ a) * (b @ b))
        return float(a @ b / norms) if norms > 0 else 0.0

    share = (clean @ clean) / (clean @ clean + noise @ noise)
    return float(-share * cosine(clean, signals.enhanced) - (1.0 - share) * cosine(noise, estimate))


@lru_cache(maxsize=2)  # CSIG, CBAK and COVL want it too
def _pesq(signals: Signals, mode: str) -> float:
    import pesq  # takes (rate, reference, degraded); the other order gives a plausible wrong number

    rate = 8000 if mode == "nb" and signals.sample_rate < 16000 else 16000
    if signals.sample_rate < rate:
        raise Unscorable(f"{mode.upper()}-PESQ needs {rate} Hz, this is {signals.sample_rate} Hz")
    clean, enhanced = (
        audio.resample(wave, signals.sample_rate, rate)
        for wave in (signals.clean, signals.enhanced)
    )
    if len(clean) < rate // 4:
        raise Unscorable("shorter than the 0.25 s that PESQ needs")
    try:
        return float(pesq.pesq(rate, clean.astype(np.float32), enhanced.astype(np.float32), mode))
    except (pesq.PesqError, ValueError) as error:
        reason = (
            error.args[0].decode()
            if error.args and isinstance(error.args[0], bytes)
            else str(error)
        )
        raise Unscorable(f"PESQ: {reason}") from error


def pesq_wb(signals: Signals) -> float:
    """Wide-band PESQ, MOS-LQO (ITU-T P.862.2) by the package pesq; rates above 16 kHz are resampled
    to it.
    """
    return _pesq(signals, "wb")


def pesq_nb(signals: Signals) -> float:
    """Narrow-band PESQ, MOS-LQO (ITU-T P.862 with P.862.1's mapping) by the package pesq, at 8 kHz
    where that is the rate.
    """
    return _pesq(signals, "nb")


@lru_cache(maxsize=1)
def _composite(signals: Signals) -> tuple[float, float, float]:
    pesq = _pesq(signals, "wb" if signals.sample_rate >= 16000 else "nb")
    clean, enhanced = (audio.resample(wave, signals.sample_rate, min(signals.sample_rate, 16000))
                       for wave in (signals.clean, signals.enhanced))  # fmt: skip
    return quality.composite(clean, enhanced, min(signals.sample_rate, 16000), pesq)


def composite(signals: Signals, *, rating: int) -> float:
    """CSIG, CBAK or COVL (0, 1, 2): see gan_denoise/quality.py; rates above 16 kHz are resampled to
    it.
    """
    return _composite(signals)[rating]


def sdr(signals: Signals) -> float:
    """BSSEval's SDR in dB with a filter of 512 taps (Vincent et al. 2006) by the package mir_eval,
    within +-100 dB.
    """
    from mir_eval.separation import bss_eval_sources

    if len(signals.clean) < 1024:
        raise Unscorable("shorter than twice SDR's filter of 512 taps")
    if not signals.clean.any() or not signals.enhanced.any():
        raise Unscorable("a silent signal has no SDR")
    with warnings.catch_warnings():
        # Mir_eval's separation is frozen, which suits a definition
        warnings.simplefilter("ignore", FutureWarning)
        found, *_ = bss_eval_sources(
            signals.clean[None], signals.enhanced[None], compute_permutation=False
        )
    return float(np.clip(found[0], -LIMIT_DB, LIMIT_DB))


def _framewise(
    signals: Signals, *, measure: Callable[[np.ndarray, np.ndarray, int], float]
) -> float:
    value = measure(signals.clean, signals.enhanced, signals.sample_rate)
    if np.isnan(value):
        raise Unscorable("shorter than two frames")
    return value


def speaker_similarity(signals: Signals) -> float:
    """Cosine of the two signals' speaker embeddings (gan_denoise/speakers.py).

    Of clean recordings of the project's six test speakers, pairs by one speaker have a median of
    0.96, by two of 0.85.
    """
    clean, enhanced = (
        speakers.embedding(wave, signals.sample_rate) for wave in (signals.clean, signals.enhanced)
    )
    if clean is None or enhanced is None:
        raise Unscorable("less than 0.2 s of active speech")
    return speakers.similarity(clean, enhanced)


@lru_cache(maxsize=1)
def _dnsmos(signals: Signals) -> dict[str, float]:
    try:
        from speechmos import dnsmos
    except ImportError as error:
        raise Unscorable('DNSMOS needs more packages: pip install ".[dnsmos]"') from error
    wave = audio.resample(signals.enhanced, signals.sample_rate, 16000)
    return dnsmos.run(wave / max(1.0, np.abs(wave).max()), 16000)


def dnsmos(signals: Signals, *, rating: str) -> float:
    """DNSMOS P.835 or P.808 (Reddy et al. 2022), which needs no clean signal, by the package
    speechmos.
    """
    return float(_dnsmos(signals)[f"{rating}_mos"])


def _stoi(signals: Signals, extended: bool) -> float:
    from pystoi import stoi as pystoi

    if len(signals.clean) < _STOI_FRAME_S * signals.sample_rate:
        raise Unscorable("STOI: shorter than one of its frames of 25.6 ms")
    with warnings.catch_warnings():
        # It warns, and returns 1e-5, where it cannot compute
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(
                pystoi(signals.clean, signals.enhanced, signals.sample_rate, extended=extended)
            )
        except RuntimeWarning as error:
            raise Unscorable("STOI: too little active speech (it needs about 0.45 s)") from error


def stoi(signals: Signals) -> float:
    """STOI (Taal et al. 2011) by the package pystoi."""
    return _stoi(signals, extended=False)


def estoi(signals: Signals) -> float:
    """Extended STOI (Jensen and Taal 2016) by the package pystoi."""
    return _stoi(signals, extended=True)


@dataclass(frozen=True)
class Metric:
    """How a metric is computed and shown."""

    function: Callable[[Signals], float]
    heading: str
    decimals: int


METRICS: dict[str, Metric] = {
    "pesq_wb": Metric(pesq_wb, "PESQ-WB", 3),
    "pesq_nb": Metric(pesq_nb, "PESQ-NB", 3),
    "stoi": Metric(stoi, "STOI", 3),
    "estoi": Metric(estoi, "ESTOI", 3),
    "si_sdr": Metric(si_sdr, "SI-SDR dB", 2),
    "sdr": Metric(sdr, "SDR dB", 2),
    "wsdr": Metric(wsdr, "wSDR", 3),
    "seg_snr": Metric(partial(_framewise, measure=quality.segmental_snr), "segSNR dB", 2),
    "lsd": Metric(partial(_framewise, measure=quality.log_spectral_distance), "LSD dB", 2),
    "csig": Metric(partial(composite, rating=0), "CSIG", 2),
    "cbak": Metric(partial(composite, rating=1), "CBAK", 2),
    "covl": Metric(partial(composite, rating=2), "COVL", 2),
    "speaker_similarity": Metric(speaker_similarity, "speaker", 3),
}
WIDE_BAND_HZ = 16000  # wide-band PESQ is defined at this rate


def lead_metric(sample_rate: int) -> str:
    """The PESQ that decides at a rate: wide-band from 16 kHz on, narrow-band below."""
    return "pesq_wb" if sample_rate >= WIDE_BAND_HZ else "pesq_nb"


def metrics_at(sample_rate: int) -> tuple[str, ...]:
    """The names in METRICS that exist at a rate."""
    return tuple(name for name in METRICS if name != "pesq_wb" or sample_rate >= WIDE_BAND_HZ)


OPTIONAL: dict[str, Metric] = {
    "dnsmos_sig": Metric(partial(dnsmos, rating="sig"), "DNSMOS SIG", 2),
    "dnsmos_bak": Metric(partial(dnsmos, rating="bak"), "DNSMOS BAK", 2),
    "dnsmos_ovrl": Metric(partial(dnsmos, rating="ovrl"), "DNSMOS OVRL", 2),
    "dnsmos_p808": Metric(partial(dnsmos, rating="p808"), "DNSMOS P.808", 2),
}
ALL = METRICS | OPTIONAL
