"""What a metric is made of: the signals that it sees, and how it is computed and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


class Unscorable(Exception):
    """This metric has no value for this pair; the message says why."""


@dataclass(frozen=True, eq=False)  # compared, and remembered, by identity
class Signals:
    """What a metric sees: mono float64 samples (T,) of equal length.

    noisy: only where it was given. text: what is said, where that is known.
    """

    clean: np.ndarray
    enhanced: np.ndarray
    noisy: np.ndarray | None
    sample_rate: int
    text: str | None = None


@dataclass(frozen=True)
class Metric:
    """How a metric is computed and shown.

    packages: what it imports that only who scores has, by the extra `extra`. task: those of one
    name are computed together, in a task of their own. brings: further metrics that its value is to
    be read with.
    """

    function: Callable[[Signals], float]
    heading: str
    decimals: int
    packages: tuple[str, ...] = ()
    extra: str = "score"
    task: str = ""
    brings: tuple[str, ...] = ()
