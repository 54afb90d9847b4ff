"""What stands around a model that works at another rate than its caller."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gan_denoise.signal.resampling import Resampler
from gan_denoise.signal.streaming import Stage


class Ends(Protocol):
    """The way into a model and out of it, for one signal, piece by piece.

    `inward` and `outward` take turns; at the end `last_inward` and `last_outward` give the rest,
    and it starts anew. strength: what the model is told, None where it is told nothing.
    """

    strength: float | None

    def inward(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) from outside -> what the model gets."""
        ...

    def outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """What the model got last, and what it gave -> (m, channels), finished."""
        ...

    def last_inward(self) -> np.ndarray: ...

    def last_outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray: ...


class Resampled:
    """Ends that change the sample rate and nothing else: what the model does not hear is lost.

    outside, inside: Hz. quality: as of Resampler.
    """

    strength: float | None = None  # nothing here depends on it

    def __init__(self, outside: int, inside: int, channels: int, *, quality: str = "VHQ"):
        self._down = Resampler(outside, inside, channels, quality=quality)
        self._up = Resampler(inside, outside, channels, quality=quality)

    def inward(self, samples: np.ndarray) -> np.ndarray:
        return self._down.push(samples)

    def outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray:
        return self._up.push(kept)

    def last_inward(self) -> np.ndarray:
        return self._down.flush()

    def last_outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray:
        return np.concatenate([self._up.push(kept), self._up.flush()])


class Around:
    """A model's stage between its ends, itself a stage."""

    def __init__(self, ends: Ends, model: Stage):
        self._ends, self._model = ends, model

    def push(self, samples: np.ndarray) -> np.ndarray:
        below = self._ends.inward(samples)
        return self._ends.outward(below, self._model.push(below))

    def flush(self) -> np.ndarray:
        below = self._ends.last_inward()
        kept = np.concatenate([self._model.push(below), self._model.flush()])
        return self._ends.last_outward(below, kept)
