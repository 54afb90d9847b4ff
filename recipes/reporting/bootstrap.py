"""How sure a mean over speakers is, by a two-level bootstrap.

It draws speakers first, then each speaker's utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

REPLICATES = 4000


class Estimate(NamedTuple):
    """Mean over the speakers' means, and the bounds of its 95 % interval."""

    mean: float
    low: float
    high: float


def estimate(values: Mapping[str, Sequence[float]], *, seed: int = 0) -> Estimate:
    """The mean over speakers of their means, with its percentile interval.

    values: spk_id -> values of its utterances, such as paired differences of two systems. With a
    handful of speakers the interval is too narrow rather than too wide: say beside it how many
    speakers there are.
    """
    sizes = tuple(len(scores) for scores in values.values())
    flat = np.concatenate([np.asarray(scores, dtype=float) for scores in values.values()])
    low, high = np.percentile(_weights(sizes, seed) @ flat, [2.5, 97.5])
    mean = np.mean([np.mean(scores) for scores in values.values()])
    return Estimate(float(mean), float(low), float(high))


@lru_cache(maxsize=4)  # the columns of a table, and most of its rows, have the same utterances
def _weights(sizes: tuple[int, ...], seed: int) -> np.ndarray:
    """(REPLICATES, utterances): the weight of each utterance in each replicate of the mean.

    sizes: the number of utterances of each speaker.
    """
    draw = np.random.default_rng(seed)
    count, first = len(sizes), np.cumsum([0, *sizes])
    weights = np.zeros((REPLICATES, first[-1]))
    # One speaker is drawn for each replicate, then a new sample of its utterances
    for _ in range(count):
        chosen = draw.integers(count, size=REPLICATES)
        for speaker, size in enumerate(sizes):
            replicates = np.flatnonzero(chosen == speaker)
            drawn = draw.integers(size, size=(len(replicates), size))
            places = drawn + size * np.arange(len(replicates))[:, None]
            times = np.bincount(places.ravel(), minlength=drawn.size).reshape(drawn.shape)
            weights[replicates, first[speaker] : first[speaker + 1]] += times / (size * count)
    return weights
