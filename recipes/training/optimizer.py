"""The optimizer that an experiment's `optimizer:` describes, and its learning rate.

The learning rate is a pure function of the step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gan_denoise.errors import InputError
from training.experiment import OptimizerSettings

# Layers that take or give signals, by their names in generators/
_OUTER = "embed", "head"
# Coefficients of the fifth-degree polynomial (Jordan et al. 2024), and how often it is applied
_POLYNOMIAL, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_LIKE_ADAMW = 0.2  # gives steps the size of AdamW's (Liu et al. 2025, section 2.2)


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """AdamW over all parameters of a module; with `muon`, Muon over its inner weight matrices.

    These are the matrices between the first and the last layer. Raises InputError where there are
    none.
    """
    first, second = settings.betas
    common: dict[str, Any] = {
        "lr": settings.lr,
        "betas": (first, second),
        "weight_decay": settings.weight_decay,
        "fused": True,
    }
    if settings.muon is None:
        return torch.optim.AdamW(module.parameters(), **common)
    groups: dict[float | None, list[nn.Parameter]] = {None: [], settings.muon: []}
    for name, parameter in module.named_parameters():
        outer = set(name.removeprefix("network.").split(".")[:1]) & set(_OUTER)
        hidden = parameter.ndim == 2 and not outer
        groups[settings.muon if hidden else None].append(parameter)
    if not groups[settings.muon]:
        raise InputError(
            "optimizer: muon: there are no weight matrices between the first and the last layer:"
            " leave it out"
        )
    return Muon(
        [{"params": parameters, "momentum": momentum} for momentum, parameters in groups.items()],
        **common,
    )


class Muon(torch.optim.AdamW):
    """AdamW for the groups whose `momentum` is None, and Muon for the matrices of the others.

    A matrix moves in the direction of its momentum made orthogonal, all singular values being near
    1 (Jordan et al. 2024). torch.optim.Muon multiplies in bf16 alone, which is very slow on CPUs
    without it: 1.6 s for convnext's matrices, where a whole update takes 0.3.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        for group in self.param_groups:
            if group["momentum"] is not None:
                self._move(group)
        return super().step(closure)

    def _move(self, group: dict[str, Any]) -> None:
        """Move the matrices of a group, and remove their gradients, so that AdamW skips them."""
        alike: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                alike[min(parameter.shape), max(parameter.shape)].append(parameter)
        for (_, longer), parameters in alike.items():
            wide = torch.stack([_wide(self._direction(matrix, group)) for matrix in parameters])
            size = group["lr"] * _LIKE_ADAMW * math.sqrt(longer)
            for parameter, update in zip(parameters, orthogonal(wide), strict=True):
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                _wide(parameter).sub_(update, alpha=size)
                parameter.grad = None

    def _direction(self, parameter: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Nesterov's momentum: the gradient, averaged with its running mean."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if not state:  # AdamW looks for a step in every state that is loaded
            state |= {"step": torch.zeros(()), "average": torch.zeros_like(parameter)}
        average = state["average"]
        average.lerp_(parameter.grad, 1.0 - group["momentum"])
        return parameter.grad.lerp(average, group["momentum"])


def _wide(matrix: Tensor) -> Tensor:
    """A view of a matrix with at least as many columns as rows."""
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T


def orthogonal(matrices: Tensor) -> Tensor:
    """Make matrices (K, M, N), M <= N, nearly orthogonal.

    Singular values above 0.005 of their matrix's Frobenius norm become 0.68 to 1.16.
    """
    first, third, fifth = _POLYNOMIAL
    matrices = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        gram = matrices @ matrices.mT
        matrices = torch.baddbmm(
            matrices, torch.baddbmm(gram, gram, gram, beta=third, alpha=fifth), matrices, beta=first
        )
    return matrices


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps: int, settings: OptimizerSettings
) -> float:
    """Set and return the rate of step 1 to steps.

    There is no scheduler object, since a prepared one would step once per process.
    """
    rate = learning_rate(step, steps, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate


def learning_rate(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The rate of step 1 to steps: a linear warm-up to `lr`, then half a cosine to `lr_final`."""
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    return settings.lr_final + (settings.lr - settings.lr_final) * 0.5 * (
        1.0 + math.cos(math.pi * share)
    )
