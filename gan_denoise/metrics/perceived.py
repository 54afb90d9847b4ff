"""PESQ, and Hu and Loizou's composite ratings, which rest on it."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from gan_denoise import audio
from gan_denoise.metrics import quality
from gan_denoise.metrics.signals import Metric, Signals, Unscorable


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
    """Wide-band PESQ, MOS-LQO (ITU-T P.862.2), by the package pesq.

    Rates above 16 kHz are resampled to 16 kHz.
    """
    return _pesq(signals, "wb")


def pesq_nb(signals: Signals) -> float:
    """Narrow-band PESQ, MOS-LQO (ITU-T P.862 with P.862.1's mapping), by the package pesq.

    It works at 8 kHz where that is the rate.
    """
    return _pesq(signals, "nb")


@lru_cache(maxsize=1)
def _composite(signals: Signals) -> tuple[float, float, float]:
    pesq = _pesq(signals, "wb" if signals.sample_rate >= 16000 else "nb")
    clean, enhanced = (audio.resample(wave, signals.sample_rate, min(signals.sample_rate, 16000))
                       for wave in (signals.clean, signals.enhanced))  # fmt: skip
    return quality.composite(clean, enhanced, min(signals.sample_rate, 16000), pesq)


def composite(signals: Signals, *, rating: int) -> float:
    """CSIG, CBAK or COVL (0, 1, 2): see quality.py; rates above 16 kHz are resampled to it."""
    return _composite(signals)[rating]


# In a task of their own: when PESQ's C code takes the process along, the other metrics of that
# utterance still stand
_metric = partial(Metric, packages=("pesq",), task="pesq")
METRICS = {
    "pesq_wb": _metric(pesq_wb, "PESQ-WB", 3),
    "pesq_nb": _metric(pesq_nb, "PESQ-NB", 3),
    "csig": _metric(partial(composite, rating=0), "CSIG", 2),
    "cbak": _metric(partial(composite, rating=1), "CBAK", 2),
    "covl": _metric(partial(composite, rating=2), "COVL", 2),
}
