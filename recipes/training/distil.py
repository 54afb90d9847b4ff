"""Distillation (Hinton et al. 2015): a smaller model learns from the output of a finished one.

The finished model, the teacher, may be larger, and need not be causal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gan_denoise.checkpoint import load_model
from gan_denoise.contract import takes_strength
from gan_denoise.errors import InputError
from gan_denoise.losses import Losses, weighted_sum
from training.experiment import DistilSettings


class Teacher:
    """The finished model of an experiment's `distil:`.

    settings: `distil` of an experiment. losses: those of the model that learns. The teacher
    computes its output during training, since every visit cuts another segment, at another level.
    Raises InputError.
    """

    def __init__(
        self,
        settings: DistilSettings,
        losses: Losses,
        *,
        sample_rate: int,
        device: torch.device,
        dtype: torch.dtype,
    ):
        generator, config = load_model(settings.teacher)
        if config["sample_rate"] != sample_rate:
            raise InputError(
                f"distil: teacher: {settings.teacher} works at {config['sample_rate']} Hz, needed:"
                f" {sample_rate} Hz"
            )
        self._generator = generator.requires_grad_(False).to(device, dtype)
        self._losses, self.weights = losses, {"distil": settings.weight}

    def terms(
        self, enhanced: Tensor, noisy: Tensor, strength: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The reconstruction losses with the teacher's output in place of clean speech.

        They keep their own weights. Returns {name: unweighted value}.
        """
        with torch.no_grad():
            told = (strength,) if takes_strength(self._generator) else ()
            shown = self._generator(noisy, *told)
        terms = self._losses(enhanced, shown, noisy, strength)
        return {"distil": weighted_sum(terms, self._losses.weights)}
