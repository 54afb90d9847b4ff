"""The normalised PESQ of a pair, which the critic learns.

It stands apart from the critic, so that the workers that compute it need not import torch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gan_denoise.metrics import ALL, Signals, Unscorable, lead_metric

LOWEST, IDENTICAL = 1.0, {"pesq_wb": 4.644, "pesq_nb": 4.549}  # MOS-LQO


class Judged(NamedTuple):
    """A pair for PESQ: waveforms (T,) and their rate in Hz."""

    clean: np.ndarray
    enhanced: np.ndarray
    sample_rate: int


def judge(pair: Judged) -> float | None:
    """Normalised PESQ, 0 to 1, rounded to 6 decimals; None where there is none."""
    name = lead_metric(pair.sample_rate)
    try:
        signals = Signals(pair.clean, pair.enhanced, None, pair.sample_rate)
        value = ALL[name].function(signals)
    except Unscorable:
        return None
    return round((value - LOWEST) / (IDENTICAL[name] - LOWEST), 6)
