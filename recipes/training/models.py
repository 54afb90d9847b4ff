"""The networks of a run: the generator with its average and its optimizer, and its opponents."""

from __future__ import annotations

from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gan_denoise import generators
from gan_denoise.contract import Generator, takes_strength
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses
from training.adversary import Adversary
from training.critic import Critic
from training.distil import Teacher
from training.experiment import PRECISIONS, Experiment
from training.optimizer import build_optimizer
from training.schedule import Schedule


class Models:
    """All networks that an experiment names, with first weights that are a function of its seed.

    generator: prepared by accelerate for training. bare_generator: the same weights without
    accelerate's wrapping. averaged: the generator that is validated and saved. Raises InputError
    for what cannot be built.
    """

    def __init__(
        self, accelerator: Accelerator, experiment: Experiment, schedule: Schedule, sample_rate: int
    ):
        torch.manual_seed(experiment.seed)
        self.dtype = getattr(torch, PRECISIONS[experiment.precision][1])
        generator = generators.build(experiment.generator, sample_rate=sample_rate).to(self.dtype)
        self.losses = Losses(experiment.losses, sample_rate).to(accelerator.device)
        if self.losses.take_strength and not takes_strength(generator):
            raise InputError(
                "losses: harm: has weights by strength, which this generator is not told: give one"
                " weight, or set generator.strength=true"
            )
        optimizer = build_optimizer(generator, experiment.optimizer)
        self.teacher = None
        if experiment.distil:
            self.teacher = Teacher(
                experiment.distil,
                self.losses,
                sample_rate=sample_rate,
                device=accelerator.device,
                dtype=self.dtype,
            )
        self.generator, self.optimizer = accelerator.prepare(generator, optimizer)
        self.bare_generator = accelerator.unwrap_model(self.generator)
        self.ema = AveragedModel(
            self.bare_generator, multi_avg_fn=get_ema_multi_avg_fn(experiment.ema_decay)
        )
        self.adversary, self.critic, opponents = None, None, experiment.adversary
        common: dict[str, Any] = {
            "sample_rate": sample_rate,
            "seed": experiment.seed,
            "updates": schedule.updates - schedule.warm_start,
            "dtype": self.dtype,
        }
        if opponents and (opponents.discriminators or not opponents.metric):
            self.adversary = Adversary(accelerator, opponents, **common)
        if opponents and opponents.metric:
            jobs = max(1, experiment.workers)
            self.critic = Critic(accelerator, opponents.metric, opponents, jobs=jobs, **common)

    @property
    def averaged(self) -> Generator:
        return cast(Generator, self.ema.module)

    @property
    def states(self) -> dict[str, Any]:
        """The parts of a checkpoint: name -> object with a state_dict."""
        states = {"generator": self.bare_generator, "ema": self.ema, "optimizer": self.optimizer}
        opponents = {"adversary": self.adversary, "critic": self.critic}
        return states | {name: opponent for name, opponent in opponents.items() if opponent}

    def terms(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor, strength: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of the generator's loss that need no opponent: {name: unweighted value}."""
        terms = self.losses(enhanced, clean, noisy, strength)
        return terms | (self.teacher.terms(enhanced, noisy, strength) if self.teacher else {})

    def weights(self, phase: str) -> dict[str, float]:
        """The weights of the terms of the generator's loss, by name."""
        weights = self.losses.weights | (self.teacher.weights if self.teacher else {})
        if self.adversary and phase == "gan":
            weights |= self.adversary.losses.weights
        if self.critic and phase == "gan":
            weights |= self.critic.weights
        return weights
