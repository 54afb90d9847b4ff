"""The GAN update as it stands in textbooks, with the modules of this project.

training/adversary.py is measured against it.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator

from gan_denoise import generators
from gan_denoise.contract import Maps
from gan_denoise.losses import Losses, weighted_sum
from training.adversary import Adversary
from training.experiment import PRECISIONS, Experiment
from training.optimizer import build_optimizer, set_learning_rate

SAMPLE_RATE = 16000


class Update:
    """One update of discriminators and generator, as a textbook writes it, or with some savings.

    The savings are those of training/adversary.py. joint: one pass over real and fake in the
    discriminators' update. frozen: discriminator parameters get no gradient in the generator's
    update. detached: no graph for the real features there. silent: no figure leaves the device.
    """

    def __init__(
        self, experiment: Experiment, device: torch.device, *, ours: bool = False, **savings: bool
    ):
        assert experiment.adversary is not None  # or there is nothing to measure
        torch.manual_seed(0)
        mixed_precision, kind = PRECISIONS[experiment.precision]
        dtype = getattr(torch, kind)
        self.generator = generators.build(experiment.generator, sample_rate=SAMPLE_RATE).to(
            device, dtype
        )
        self.losses, settings = Losses(experiment.losses).to(device), experiment.optimizer
        self.optimizer = build_optimizer(self.generator, settings)
        accelerator = Accelerator(mixed_precision=mixed_precision, cpu=device.type == "cpu")
        self.adversary = Adversary(
            accelerator,
            experiment.adversary,
            sample_rate=SAMPLE_RATE,
            seed=0,
            updates=10**6,
            dtype=dtype,
        )
        self.weights = self.losses.weights | self.adversary.losses.weights
        self.ours, self.savings = ours, savings
        self.clip_norm, self.number = experiment.clip_norm, 0

    def __call__(self, noisy: torch.Tensor, clean: torch.Tensor) -> None:
        self.number += 1
        torch.manual_seed(self.number)
        enhanced = self.generator(noisy)
        shown = self.adversary.excerpts(self.number, clean, enhanced, noisy)
        if self.ours:
            self.adversary.learn(self.number, *shown)
            terms = self.adversary.terms(*shown)
        else:
            self._learn(*shown)
            terms = self._terms(*shown)
        loss = weighted_sum(self.losses(enhanced, clean, noisy) | terms, self.weights)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), self.clip_norm)
        self.optimizer.step()

    def _learn(self, real: torch.Tensor, fake: torch.Tensor, noisy: torch.Tensor) -> None:
        bank, optimizer = self.adversary.bare_bank, self.adversary.optimizer
        set_learning_rate(optimizer, self.number, 10**6, self.adversary.settings.optimizer)
        optimizer.zero_grad()
        if self.savings.get("joint"):
            both = bank(torch.cat([real, fake.detach()]), torch.cat([noisy, noisy]))
            real_maps, fake_maps = (
                [[features.chunk(2)[half] for features in maps] for maps in both]
                for half in range(2)
            )
        else:
            real_maps, fake_maps = bank(real, noisy), bank(fake.detach(), noisy)
        loss = self.adversary.losses.discriminator(real_maps, fake_maps)
        self._report(real_maps, fake_maps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(bank.parameters(), self.adversary.settings.clip_norm)
        optimizer.step()

    def _terms(
        self, real: torch.Tensor, fake: torch.Tensor, noisy: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        bank = self.adversary.bare_bank
        bank.requires_grad_(not self.savings.get("frozen"))
        with torch.set_grad_enabled(not self.savings.get("detached")):
            real_maps = bank(real, noisy)
        fake_maps = bank(fake, noisy)
        bank.requires_grad_(True)
        self._report(real_maps, fake_maps)
        return self.adversary.losses(real_maps, fake_maps)

    def _report(self, real_maps: Maps, fake_maps: Maps) -> None:
        if not self.savings.get("silent"):
            for maps in (*real_maps, *fake_maps):
                maps[-1].mean().item()


def difference(one: Update, other: Update) -> float:
    """The largest difference of two weights, relative to the largest weight of its tensor.

    It covers generators and discriminators.
    """
    pairs = zip(
        (*one.generator.parameters(), *one.adversary.bare_bank.parameters()),
        (*other.generator.parameters(), *other.adversary.bare_bank.parameters()),
        strict=True,
    )
    return max(
        float((a - b).detach().abs().max() / a.detach().abs().max().clamp_min(1e-3))
        for a, b in pairs
    )
