"""How far enhanced speech is from clean speech, in dB and their like."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np

from gan_denoise.metrics import quality
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

LIMIT_DB = 100.0  # of SI-SDR and SDR, both ways


def si_sdr(signals: Signals) -> float:
    """Scale-invariant SDR in dB of zero-mean signals, within +-100 dB.

    Le Roux et al. 2019, eq. 3.
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
    """Weighted SDR (Choi et al. 2019, eq. 7), with the loss's sign: -1 is best.

    It needs the noisy signal.
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


def sdr(signals: Signals) -> float:
    """BSSEval's SDR in dB (Vincent et al. 2006) by the package mir_eval, within +-100 dB.

    The filter has 512 taps at every rate.
    """
    from mir_eval.separation import bss_eval_sources

    if len(signals.clean) < 1024:
        raise Unscorable("shorter than twice SDR's filter of 512 taps")
    if not signals.clean.any() or not signals.enhanced.any():
        raise Unscorable("a silent signal has no SDR")
    with warnings.catch_warnings():
        # Mir_eval's separation is frozen, which suits a definition
        warnings.simplefilter("ignore", FutureWarning)
        ratios, *_ = bss_eval_sources(
            signals.clean[None], signals.enhanced[None], compute_permutation=False
        )
    return float(np.clip(ratios[0], -LIMIT_DB, LIMIT_DB))


def _framewise(
    signals: Signals, *, measure: Callable[[np.ndarray, np.ndarray, int], float]
) -> float:
    value = measure(signals.clean, signals.enhanced, signals.sample_rate)
    if np.isnan(value):
        raise Unscorable("shorter than two frames")
    return value


METRICS = {
    "si_sdr": Metric(si_sdr, "SI-SDR dB", 2),
    "sdr": Metric(sdr, "SDR dB", 2, packages=("mir_eval",)),
    "wsdr": Metric(wsdr, "wSDR", 3),
    "seg_snr": Metric(partial(_framewise, measure=quality.segmental_snr), "segSNR dB", 2),
    "lsd": Metric(partial(_framewise, measure=quality.log_spectral_distance), "LSD dB", 2),
}
