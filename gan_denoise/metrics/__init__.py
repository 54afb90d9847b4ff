"""Metrics of one utterance, found by file: each file here has a dict METRICS of name -> Metric.

A metric that cannot be computed raises Unscorable with the reason, and is never replaced. Those
that `METRICS` below does not name are computed on demand alone: a new one is a new file.
Metrics that are made for 16 kHz (PESQ, STOI, the composite ratings, those of voices and words, and
networks) get signals of a higher rate resampled to it by soxr in its quality VHQ (audio.resample).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

# By name, so that a digest of the code that scores rest on has these files (provenance/code.py)
from gan_denoise.metrics.distortion import sdr, si_sdr, wsdr
from gan_denoise.metrics.intelligibility import estoi, stoi
from gan_denoise.metrics.perceived import composite, pesq_nb, pesq_wb
from gan_denoise.metrics.signals import Metric, Signals, Unscorable
from gan_denoise.metrics.voice import speaker_similarity

__all__ = [
    "ALL",
    "METRICS",
    "MODULES",
    "OPTIONAL",
    "Metric",
    "Signals",
    "Unscorable",
    "composite",
    "estoi",
    "lead_metric",
    "metrics_at",
    "pesq_nb",
    "pesq_wb",
    "sdr",
    "si_sdr",
    "speaker_similarity",
    "stoi",
    "with_companions",
    "wsdr",
]

_ALWAYS = (
    *("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "sdr", "wsdr", "seg_snr", "lsd"),
    *("csig", "cbak", "covl", "speaker_similarity"),
)
WIDE_BAND_HZ = 16000  # wide-band PESQ is defined at this rate
FULL_BAND_HZ = 44100  # from this rate on, tables have what lies above 8 kHz as well
_FULL_BAND = ("lsd_high", "si_sdr_high")

MODULES: dict[str, str] = {}  # of every metric
ALL: dict[str, Metric] = {}
for _file in sorted(pkgutil.iter_modules(__path__, f"{__name__}."), key=lambda file: file.name):
    for _name, _metric in getattr(importlib.import_module(_file.name), "METRICS", {}).items():
        MODULES[_name], ALL[_name] = _file.name, _metric
METRICS = {name: ALL[name] for name in _ALWAYS}  # of every table
OPTIONAL = {name: metric for name, metric in ALL.items() if name not in METRICS}
ALL = METRICS | OPTIONAL


def with_companions(names: Iterable[str]) -> list[str]:
    """These metrics, each followed by those that it brings; each once."""
    return list(dict.fromkeys(each for name in names for each in (name, *ALL[name].brings)))


def lead_metric(sample_rate: int) -> str:
    """The PESQ that decides at a rate: wide-band from 16 kHz on, narrow-band below."""
    return "pesq_wb" if sample_rate >= WIDE_BAND_HZ else "pesq_nb"


def metrics_at(sample_rate: int) -> tuple[str, ...]:
    """The metrics of every table at a rate."""
    names = (name for name in METRICS if name != "pesq_wb" or sample_rate >= WIDE_BAND_HZ)
    return (*names, *(_FULL_BAND if sample_rate >= FULL_BAND_HZ else ()))
