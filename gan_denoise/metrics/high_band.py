"""What lies above 8 kHz, of which PESQ, STOI and their like hear nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gan_denoise.metrics import quality
from gan_denoise.metrics.distortion import si_sdr
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

LOWEST_HZ = 8000


def _check(signals: Signals) -> None:
    if signals.sample_rate <= 2 * LOWEST_HZ:
        raise Unscorable(f"there is no band above {LOWEST_HZ} Hz at {signals.sample_rate} Hz")


def above(wave: np.ndarray, sample_rate: int, hz: float = LOWEST_HZ) -> np.ndarray:
    """(T,) -> the part of it from `hz` on, by the DFT of the whole: a projection, without phase."""
    spectrum = np.fft.rfft(wave)
    spectrum[np.fft.rfftfreq(len(wave), 1.0 / sample_rate) < hz] = 0.0
    return np.fft.irfft(spectrum, len(wave))


def lsd_high(signals: Signals) -> float:
    """Log-spectral distance in dB of the bins from 8 kHz on; otherwise as `lsd` (quality.py)."""
    _check(signals)
    clean, enhanced, rate = signals.clean, signals.enhanced, signals.sample_rate
    return quality.log_spectral_distance(clean, enhanced, rate, lowest_hz=LOWEST_HZ)


def si_sdr_high(signals: Signals) -> float:
    """SI-SDR in dB of the band from 8 kHz on, within +-100 dB; a band that is empty has none."""
    _check(signals)
    clean, enhanced = (
        above(wave, signals.sample_rate) for wave in (signals.clean, signals.enhanced)
    )
    # What is left of samples without such a band is their rounding
    for what, band, whole in (
        ("clean", clean, signals.clean),
        ("enhanced", enhanced, signals.enhanced),
    ):
        if band @ band <= 1e-20 * (whole @ whole):
            raise Unscorable(f"the {what} signal holds nothing above {LOWEST_HZ} Hz")
    return si_sdr(replace(signals, clean=clean, enhanced=enhanced))


METRICS = {
    "lsd_high": Metric(lsd_high, "LSD > 8 kHz dB", 2),
    "si_sdr_high": Metric(si_sdr_high, "SI-SDR > 8 kHz dB", 2),
}
