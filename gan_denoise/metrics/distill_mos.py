"""Distill-MOS, on demand: the mean opinion that listeners would have of enhanced speech alone."""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.metrics.signals import Metric, Signals, Unscorable

_LONGEST_S = 60.0  # a window of 7.7 s for each second lies in memory at the same time


@lru_cache(maxsize=1)
def _model() -> Any:
    audio.torchaudio()  # which distillmos imports
    import distillmos

    with contextlib.redirect_stdout(io.StringIO()):  # it tells where its weights are
        return distillmos.ConvTransformerSQAModel().eval()


def distill_mos(signals: Signals) -> float:
    """Distill-MOS, about 1 to 5 (Stahl and Gamper 2025), by the package distillmos.

    It needs no clean signal.
    """
    import torch

    wave = audio.resample(signals.enhanced, signals.sample_rate, 16000)
    if len(wave) > _LONGEST_S * 16000:
        raise Unscorable(f"Distill-MOS: longer than {_LONGEST_S:.0f} s: score shorter pieces")
    with torch.inference_mode():
        return float(_model()(torch.from_numpy(wave.astype(np.float32))[None]))


METRICS = {
    "distill_mos": Metric(
        distill_mos,
        "Distill-MOS",
        3,
        packages=("distillmos", "torchaudio"),
        extra="judges",
        task="distill_mos",
    )
}
