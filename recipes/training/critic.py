"""The critic: a discriminator that has learnt PESQ tells the generator what would raise it.

MetricGAN: Fu et al. 2019; with reconstruction losses: CMGAN, Cao et al. 2022. The critic gets
(clean, x), and its prediction D shall be the normalised PESQ of x: 0 for a MOS-LQO of 1, and 1 for
a copy of clean. It minimises (D(clean, clean) - 1)^2 + (D(clean, enhanced) - PESQ)^2, the generator
(D(clean, enhanced) - 1)^2. PESQ is C code that can crash or hang: worker processes compute it
during the generator's update, and the critic learns when they are done, so that no process waits in
vain and no result depends on which process was faster.

A critic that is `self_correcting` (after SCP-GAN: Zadorozhnyy et al. 2023) does not let one part of
its loss undo the other: where the gradients of the parts point against each other, each first loses
its component along the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import torch
from accelerate import Accelerator
from pebble import ProcessPool
from torch import Tensor
from torch.autograd import grad
from torch.func import functional_call

from gan_denoise import scoring
from gan_denoise.contract import Maps
from gan_denoise.discriminators import Bank
from gan_denoise.system import workers
from training.experiment import AdversarySettings, MetricSettings
from training.judge import Judged, judge
from training.optimizer import build_optimizer, set_learning_rate

_TIMEOUT_S = 60.0  # a segment of 2 s takes 0.03


class Asked(NamedTuple):
    """Waveforms (B, 1, T), divided by the clean items' RMS, and the pending PESQ of each item."""

    clean: Tensor
    enhanced: Tensor
    pairs: list[Judged]
    answers: Sequence[Future[float | None]]


class Critic:
    """The critic that an experiment's `adversary.metric` describes, and its optimizer.

    settings: `adversary.metric` of an experiment. adversary: `adversary`, whose optimizer settings
    the critic uses. updates: how often the critic will learn. jobs: processes that compute PESQ.
    Raises InputError.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        settings: MetricSettings,
        adversary: AdversarySettings,
        *,
        sample_rate: int,
        seed: int,
        updates: int,
        jobs: int,
        dtype: torch.dtype = torch.float32,
    ):
        self._accelerator, self._adversary, self._updates = accelerator, adversary, updates
        self._self_correcting = settings.self_correcting
        self._sample_rate, self._jobs = sample_rate, jobs
        self._pool: ProcessPool | None = None
        self.weights = {"metric": settings.weight}
        members = settings.discriminators
        bank = Bank(members, conditional=True, seed=seed, sample_rate=sample_rate).to(dtype)
        self.bank, self.optimizer = accelerator.prepare(
            bank, build_optimizer(bank, adversary.optimizer)
        )
        self.bare_bank = accelerator.unwrap_model(self.bank)

    def ask(self, clean: Tensor, enhanced: Tensor) -> Asked:
        """Start to compute the PESQ of (B, 1, T) without waiting; `learn` waits for the results."""
        if self._pool is None:
            scoring.preload()  # for validations, whose workers come from the same process
            workers.preload(judge.__module__)
            context = workers.forkserver(imports_program=False)
            self._pool = ProcessPool(max_workers=self._jobs, context=context)
        references, degraded = (
            wave.detach().float().cpu().numpy()[:, 0] for wave in (clean, enhanced)
        )
        pairs = [
            Judged(reference, wave, self._sample_rate)
            for reference, wave in zip(references, degraded, strict=True)
        ]
        answers = [self._pool.schedule(judge, [pair], timeout=_TIMEOUT_S) for pair in pairs]
        level = clean.square().mean(dim=-1, keepdim=True).sqrt().clamp_min(1e-4)
        return Asked(clean / level, enhanced / level, pairs, answers)

    def terms(self, asked: Asked) -> dict[str, Tensor]:
        """The generator's term, {name: unweighted value}; its gradient reaches `enhanced` alone."""
        frozen = {name: parameter.detach() for name, parameter in self.bare_bank.named_parameters()}
        maps = functional_call(self.bare_bank, frozen, (asked.enhanced, asked.clean))
        return {"metric": (predictions(maps) - 1.0).square().mean()}

    def learn(self, number: int, asked: Asked) -> dict[str, Tensor]:
        """Update number 1, 2, ... of the critic, in place.

        Returns the values for the log: loss, gradient norm, and the means of the predicted and the
        true PESQ; for a self-correcting critic also the cosine between the gradients of the parts
        of its loss. An item without PESQ (silence, a crash) is left out.
        """
        set_learning_rate(self.optimizer, number, self._updates, self._adversary.optimizer)
        truths = [self._answer(*each) for each in zip(asked.pairs, asked.answers, strict=True)]
        mask = asked.clean.new_tensor([truth is not None for truth in truths])
        truth = asked.clean.new_tensor([truth or 0.0 for truth in truths])
        self.optimizer.zero_grad()
        clean, enhanced = asked.clean, asked.enhanced.detach()
        bank = self.bare_bank if self._self_correcting else self.bank
        maps = bank(torch.cat([clean, enhanced]), torch.cat([clean, clean]))
        of_clean, of_enhanced = predictions(maps).chunk(2)
        count = mask.sum().clamp_min(1.0)
        error = ((of_enhanced - truth).square() * mask).sum() / count
        of_identity = (of_clean - 1.0).square().mean()
        loss = of_identity + error
        agreement = {}
        if self._self_correcting:
            agreement["metric_agreement"] = self._corrected_backward(of_identity, error)
        else:
            self._accelerator.backward(loss)
        clip_norm = self._adversary.clip_norm
        norm = self._accelerator.clip_grad_norm_(self.bank.parameters(), clip_norm)
        self.optimizer.step()
        predicted = (of_enhanced.detach() * mask).sum() / count
        means = {"metric_predicted": predicted, "metric_true": (truth * mask).sum() / count}
        return {"metric_loss": loss.detach(), "metric_gradient_norm": norm, **means, **agreement}

    def _corrected_backward(self, *parts: Tensor) -> Tensor:
        """Give the parameters the gradients of two parts of the loss, without their contradiction.

        The gradients are means over all processes. Each loses its component along the other where
        the two point against each other. Returns the cosine between the two.
        """
        parameters = list(self.bare_bank.parameters())
        one, other = (
            self._accelerator.reduce(
                torch.cat(
                    [gradient.flatten() for gradient in grad(part, parameters, retain_graph=more)]
                ),
                reduction="mean",
            )
            for part, more in zip(parts, (True, False), strict=True)
        )
        product, tiny = one @ other, torch.finfo(one.dtype).tiny
        against = product.clamp(max=0.0)
        corrected = one - against / (other @ other).clamp_min(tiny) * other
        corrected += other - against / (one @ one).clamp_min(tiny) * one
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, gradient in zip(parameters, corrected.split(sizes), strict=True):
            parameter.grad = gradient.view_as(parameter)
        return product / (one.norm() * other.norm()).clamp_min(tiny)

    def _answer(self, pair: Judged, answer: Future) -> float | None:
        """The normalised PESQ of a pair, or None.

        Whatever has happened to the worker, the pair is tried again, so that the answer is a
        function of the pair.
        """
        if not answer.exception():
            return answer.result()
        again = workers.each(
            judge,
            [pair],
            jobs=1,
            timeout_s=_TIMEOUT_S,
            always_isolated=True,
            imports_program=False,
        )
        return next(again).result

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def state_dict(self) -> dict:
        return {
            "discriminators": self.bare_bank.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.bare_bank.load_state_dict(state["discriminators"])
        self.optimizer.load_state_dict(state["optimizer"])


def predictions(maps: Maps) -> Tensor:
    """One prediction for each item, (B,): the mean of its scores over all sub-discriminators."""
    return torch.stack([scores[-1].flatten(1).mean(dim=1) for scores in maps]).mean(dim=0)
