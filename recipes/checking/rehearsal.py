"""Two short trainings that tell whether the long one can work.

One learns a single batch by heart; the other tries all learning rates in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gan_denoise import generators
from gan_denoise.losses import Losses, weighted_sum
from gan_denoise.system.terminal import progress
from training.experiment import Experiment
from training.optimizer import build_optimizer

LOWEST, HIGHEST = 1e-6, 1.0  # learning rates
_SMOOTHING = 0.9
_DIVERGED = 3.0  # times the lowest loss
Batch = tuple[Tensor, Tensor]  # noisy, clean (B, 1, T)


class Rehearsal:
    """A generator with the experiment's first weights, and its reconstruction losses.

    It trains without the adversary, dropout and mixed precision.
    """

    def __init__(self, experiment: Experiment, sample_rate: int):
        torch.manual_seed(experiment.seed)
        generator = generators.build(experiment.generator, sample_rate=sample_rate)
        self.generator = generator.eval()
        self.losses, self._clip_norm = Losses(experiment.losses, sample_rate), experiment.clip_norm
        self.optimizer = build_optimizer(generator, experiment.optimizer)

    def loss(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        return weighted_sum(self.losses(enhanced, clean, noisy), self.losses.weights)

    def update(self, batch: Batch, rate: float) -> tuple[float, float]:
        """Loss before the update, and the gradient's norm."""
        noisy, clean = batch
        loss = self.loss(self.generator(noisy), clean, noisy)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        parameters = self.generator.parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._clip_norm)
        self.optimizer.step()
        return float(loss.detach()), float(norm)


@dataclass(frozen=True)
class ByHeart:
    """How the training on one batch went.

    losses: of every update. of_input: the loss of the noisy batch itself. target: the loss to be
    reached. problem: why it was not reached, in words; empty where it was.
    """

    losses: list[float]
    of_input: float
    target: float
    problem: str


def by_heart(
    experiment: Experiment, sample_rate: int, batch: Batch, *, updates: int, share: float
) -> ByHeart:
    """Learn one batch: a generator that cannot do that cannot learn a corpus.

    share: the part of the input's own loss that is to be reached.
    """
    rehearsal, rate = Rehearsal(experiment, sample_rate), experiment.optimizer.lr
    noisy, clean = batch
    of_input = float(rehearsal.loss(noisy, clean, noisy))
    target, losses, norms = share * of_input, [], []
    for number in progress(range(updates), total=updates, label="one batch", unit="updates"):
        warm = min(1.0, (number + 1) / max(1, updates // 10))
        loss, norm = rehearsal.update(batch, warm * rate)
        losses.append(loss)
        norms.append(norm)
        if not math.isfinite(loss) or not math.isfinite(norm):
            problem = f"update {number + 1} is not finite: lower optimizer.lr={rate:g}"
            return ByHeart(losses, of_input, target, problem)
    reached, problem = min(losses[-10:]), ""
    if max(norms) == 0.0:
        problem = "no gradient reaches the generator"
    elif reached > 0.98 * losses[0]:
        problem = f"the loss stays at {reached:.4f}: is optimizer.lr={rate:g} far too low or high?"
    elif reached > target:
        problem = (
            f"it got from {losses[0]:.4f} to {reached:.4f}, wanted was {target:.4f}: the generator"
            " is too small for it, optimizer.lr not what it needs, or clean and noisy do not belong"
            " together"
        )
    return ByHeart(losses, of_input, target, problem)


@dataclass(frozen=True)
class RangeTest:
    """The learning rates that were tried, and the losses with them.

    rates, losses: of every update; losses are smoothed and relative to the noisy batch's own, since
    batches differ in level. suggestion: a peak learning rate; None where the loss never fell.
    """

    rates: list[float]
    losses: list[float]
    lowest_at: float
    suggestion: float | None


def range_test(
    experiment: Experiment, sample_rate: int, batches: Iterator[Batch], *, updates: int
) -> RangeTest:
    """Train while the learning rate grows from 1e-6 to 1 in equal factors.

    A tenth of the rate at which the loss is lowest learns fast and is far from diverging (Smith,
    "Cyclical Learning Rates for Training Neural Networks", 2015).
    """
    rehearsal = Rehearsal(experiment, sample_rate)
    factor = (HIGHEST / LOWEST) ** (1.0 / (updates - 1))
    rates, losses, mean = [], [], 0.0
    for number in progress(range(updates), total=updates, label="learning rates", unit="updates"):
        rate = LOWEST * factor**number
        noisy, clean = next(batches)
        with torch.no_grad():
            of_input = float(rehearsal.loss(noisy, clean, noisy))
        loss, norm = rehearsal.update((noisy, clean), rate)
        loss /= max(of_input, 1e-12)
        if not math.isfinite(loss) or not math.isfinite(norm):
            break
        mean = _SMOOTHING * mean + (1.0 - _SMOOTHING) * loss
        rates.append(rate)
        losses.append(mean / (1.0 - _SMOOTHING ** (number + 1)))
        if losses[-1] > _DIVERGED * min(losses):
            break
    lowest_at = rates[losses.index(min(losses))] if losses else LOWEST
    fell = len(losses) > 1 and min(losses) < 0.99 * losses[min(len(losses), 20) - 1]
    return RangeTest(rates, losses, lowest_at, lowest_at / 10.0 if fell else None)
