"""AdamW as an experiment's `optimizer:` describes it, and its learning rate, a pure function of the
step.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from training.experiment import OptimizerSettings


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW over all parameters of a module."""
    first, second = settings.betas
    return torch.optim.AdamW(
        module.parameters(),
        lr=settings.lr,
        betas=(first, second),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps: int, settings: OptimizerSettings
) -> float:
    """Set and return the rate of step 1 to steps. No scheduler object: a prepared one would step
    once per process.
    """
    rate = learning_rate(step, steps, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """For step 1 to steps: a linear warm-up to `lr`, then half a cosine down to `lr_final`."""
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.lr_final + (settings.lr - settings.lr_final) * 0.5 * (
        1.0 + math.cos(math.pi * share)
    )
