"""STOI and ESTOI, of what lies below 8 kHz: rates above 16 kHz are resampled to it first (soxr)."""

from __future__ import annotations

import warnings

from gan_denoise import audio
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

_STOI_FRAME_S = 0.0256  # 256 samples at its 10 kHz


def _stoi(signals: Signals, extended: bool) -> float:
    from pystoi import stoi as pystoi

    rate = min(signals.sample_rate, 16000)
    clean, enhanced = (
        audio.resample(wave, signals.sample_rate, rate)
        for wave in (signals.clean, signals.enhanced)
    )
    if len(clean) < _STOI_FRAME_S * rate:
        raise Unscorable("STOI: shorter than one of its frames of 25.6 ms")
    with warnings.catch_warnings():
        # It warns, and returns 1e-5, where it cannot compute
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi(clean, enhanced, rate, extended=extended))
        except RuntimeWarning as error:
            raise Unscorable("STOI: too little active speech (it needs about 0.45 s)") from error


def stoi(signals: Signals) -> float:
    """STOI (Taal et al. 2011) by the package pystoi."""
    return _stoi(signals, extended=False)


def estoi(signals: Signals) -> float:
    """Extended STOI (Jensen and Taal 2016) by the package pystoi."""
    return _stoi(signals, extended=True)


METRICS = {
    "stoi": Metric(stoi, "STOI", 3, packages=("pystoi",)),
    "estoi": Metric(estoi, "ESTOI", 3, packages=("pystoi",)),
}
