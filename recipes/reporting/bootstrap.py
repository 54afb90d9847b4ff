"""How sure a mean over speakers is: a two-level bootstrap, speakers first, then each speaker's
utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

REPLICATES = 4000


class Estimate(NamedTuple):
    """Mean over the speakers' means, and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def estimate(values: Mapping[str, Sequence[float]], *, seed: int = 0) -> Estimate:
    """spk_id -> values of its utterances, such as paired differences of two systems. The interval
    is the percentile one.

    With a handful of speakers it is too narrow rather than too wide: say how many there are beside
    it.
    """
    draw = np.random.default_rng(seed)
    speakers = [np.asarray(own, dtype=float) for own in values.values()]
    count = len(speakers)
    means = np.zeros(REPLICATES)
    # One speaker is drawn for each replicate, then a new sample of its utterances
    for _ in range(count):
        chosen = draw.integers(count, size=REPLICATES)
        for speaker, own in enumerate(speakers):
            replicates = np.flatnonzero(chosen == speaker)
            means[replicates] += (
                own[draw.integers(len(own), size=(len(replicates), len(own)))].mean(axis=-1) / count
            )
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(np.mean([own.mean() for own in speakers])), float(low), float(high))
