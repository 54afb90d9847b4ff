"""Sizes in samples that stand for a duration: written for one rate, as long at another."""

from __future__ import annotations

BASE_HZ = 16000  # the rate for which experiments and losses state sizes in samples


def samples_at(samples: int, sample_rate: int, *, multiple: int = 1, base: int = BASE_HZ) -> int:
    """How many samples at `sample_rate` Hz last as long as `samples` do at `base` Hz.

    The result is rounded to a multiple of `multiple`, and is at least that. At `base` itself it is
    `samples`.
    """
    if sample_rate == base:
        return samples
    return multiple * max(1, round(samples * sample_rate / (base * multiple)))


def whole_ratio(sample_rate: int) -> int:
    """How often BASE_HZ goes into a rate, rounded: 3 at 44.1 and 48 kHz, 1 at 16 kHz and below."""
    return max(1, round(sample_rate / BASE_HZ))
