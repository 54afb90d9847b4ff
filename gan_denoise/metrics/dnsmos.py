"""DNSMOS, on demand: what a network that was taught by listeners says of enhanced speech alone."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from gan_denoise import audio
from gan_denoise.metrics.signals import Metric, Signals


@lru_cache(maxsize=1)
def _dnsmos(signals: Signals) -> dict[str, float]:
    from speechmos import dnsmos

    wave = audio.resample(signals.enhanced, signals.sample_rate, 16000)
    return dnsmos.run(wave / max(1.0, np.abs(wave).max()), 16000)


def dnsmos(signals: Signals, *, rating: str) -> float:
    """DNSMOS P.835 or P.808 (Reddy et al. 2022), by the package speechmos.

    It needs no clean signal.
    """
    return float(_dnsmos(signals)[f"{rating}_mos"])


_metric = partial(
    Metric, packages=("speechmos", "librosa", "onnxruntime"), extra="dnsmos", task="dnsmos"
)
METRICS = {
    "dnsmos_sig": _metric(partial(dnsmos, rating="sig"), "DNSMOS SIG", 2),
    "dnsmos_bak": _metric(partial(dnsmos, rating="bak"), "DNSMOS BAK", 2),
    "dnsmos_ovrl": _metric(partial(dnsmos, rating="ovrl"), "DNSMOS OVRL", 2),
    "dnsmos_p808": _metric(partial(dnsmos, rating="p808"), "DNSMOS P.808", 2),
}
