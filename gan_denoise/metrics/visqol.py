"""ViSQOL in audio mode, on demand: what listeners would say of a recording up to 24 kHz."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from gan_denoise import audio
from gan_denoise.metrics.signals import Metric, Signals

_RATE = 48000


@lru_cache(maxsize=1)
def _model() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api


def visqol(signals: Signals) -> float:
    """ViSQOL's MOS-LQO in audio mode, 1 to 4.73, by the package visqol-python.

    Chinen et al. 2020. Other rates than 48 kHz are resampled to 48 kHz.
    """
    clean, enhanced = (
        audio.resample(wave, signals.sample_rate, _RATE)
        for wave in (signals.clean, signals.enhanced)
    )
    return float(_model().measure_from_arrays(clean, enhanced, _RATE).moslqo)


METRICS = {
    "visqol": Metric(visqol, "ViSQOL", 3, packages=("visqol",), extra="judges", task="visqol")
}
