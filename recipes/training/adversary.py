"""The adversary of a run: its discriminators, their optimizer, and the two ways to use them.

Four savings change nothing but the time (recipes/benchmark.py gan measures them against the
textbook loop): one joint pass over real and fake in the discriminators' update; the parameters
frozen in the generator's; no graph for the real features there, and no such pass at all without
feature matching; no figure leaves the device before it is logged.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from gan_denoise.adversarial import AdversarialLosses
from gan_denoise.contract import Maps
from gan_denoise.discriminators import Bank
from gan_denoise.signal.rates import BASE_HZ
from training.experiment import AdversarySettings
from training.optimizer import build_optimizer, set_learning_rate
from training.schedule import random_number


class Adversary:
    """The discriminators that an experiment's `adversary:` describes, and their optimizer.

    settings: `adversary:` of an experiment. updates: how often the discriminators will learn.
    Raises InputError.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        settings: AdversarySettings,
        *,
        sample_rate: int,
        seed: int,
        updates: int,
        dtype: torch.dtype = torch.float32,
    ):
        self._accelerator, self.settings = accelerator, settings
        self._seed, self._updates = seed, updates
        self._length = round(settings.segment_s * sample_rate)
        self.losses = AdversarialLosses(settings.losses)
        # The same filter in Hz at every rate
        self._emphasis = settings.pre_emphasis ** (BASE_HZ / sample_rate)
        bank = Bank(
            settings.discriminators,
            conditional=settings.conditional,
            seed=seed,
            sample_rate=sample_rate,
        ).to(dtype)
        self.bank, self.optimizer = accelerator.prepare(
            bank, build_optimizer(bank, settings.optimizer)
        )
        self.bare_bank = accelerator.unwrap_model(self.bank)

    def excerpts(self, update: int, clean: Tensor, *waves: Tensor) -> list[Tensor]:
        """The discriminators' input: clean and the other waves, (B, 1, T) -> (B, 1, segment_s).

        The place is a function of (seed, update), the same for all items. All excerpts are
        pre-emphasised and divided by the RMS of the clean item after that (at least -80 dB of full
        scale), since natural speech may have any level, but gradients depend on it.
        """
        length = min(self._length, clean.shape[-1])
        start = random_number(self._seed, "excerpt", update) % (clean.shape[-1] - length + 1)
        whitened = [self._emphasise(wave) for wave in (clean, *waves)]
        level = whitened[0].square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-4)
        return [wave[..., start : start + length] / level for wave in whitened]

    def _emphasise(self, wave: Tensor) -> Tensor:
        """Pre-emphasis: y[t] = x[t] - pre_emphasis x[t - 1] at 16 kHz, as strong at every rate.

        High frequencies are quiet in speech, and discriminators would overlook them.
        """
        return wave - self._emphasis * F.pad(wave, (1, 0))[..., :-1]

    def learn(self, number: int, real: Tensor, fake: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """Update number 1, 2, ... of the discriminators, in place.

        Returns the values for the log: loss, gradient norm, mean scores.
        """
        set_learning_rate(self.optimizer, number, self._updates, self.settings.optimizer)
        self.optimizer.zero_grad()
        both = self.bank(torch.cat([real, fake.detach()]), torch.cat([noisy, noisy]))
        real_maps, fake_maps = ([[maps[-1].chunk(2)[half]] for maps in both] for half in range(2))
        loss = self.losses.discriminator(real_maps, fake_maps)
        self._accelerator.backward(loss)
        norm = self._accelerator.clip_grad_norm_(self.bank.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        scores = {"score_real": mean_score(real_maps), "score_fake": mean_score(fake_maps)}
        return {"discriminator_loss": loss.detach(), "discriminator_gradient_norm": norm, **scores}

    def terms(self, real: Tensor, fake: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """The generator's adversarial terms, {name: unweighted value}.

        Their gradient reaches `fake` alone.
        """
        frozen = {name: parameter.detach() for name, parameter in self.bare_bank.named_parameters()}
        real_maps: Maps = []
        if self.losses.reads_real:
            with torch.no_grad():
                real_maps = self.bare_bank(real, noisy)
        return self.losses(real_maps, functional_call(self.bare_bank, frozen, (fake, noisy)))

    def state_dict(self) -> dict:
        return {
            "discriminators": self.bare_bank.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.bare_bank.load_state_dict(state["discriminators"])
        self.optimizer.load_state_dict(state["optimizer"])


def mean_score(outputs: Maps) -> Tensor:
    """Mean score over all sub-discriminators, without a graph."""
    return torch.stack([maps[-1].detach().mean() for maps in outputs]).mean()
