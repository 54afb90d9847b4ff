"""Reconstruction losses: one file each, found by its name.

`losses/foo.py` holds one class `Loss`, a contract.Loss. Its constructor takes its parameters as
keywords with defaults, and `sample_rate` in Hz where it needs that. The same word stands in an
experiment's `losses:`, here, in the log and in the plots.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gan_denoise import registry
from gan_denoise.config import check_interval, check_keys, check_number
from gan_denoise.contract import Loss
from gan_denoise.errors import InputError

_FAINT = 0.01  # lowest power of a target, as a share of the input's, by which errors are judged


def names() -> list[str]:
    """The names of all losses."""
    return registry.names(sys.modules[__name__])


class Losses(nn.Module):
    """The reconstruction losses of an experiment, with their weights.

    settings: name -> weight, or name -> {weight: ..., and parameters of the loss}. The weight of
    `harm` may be [gentle, strong]: its weights at a strength of 0 and of 1, with equal ratios
    between. Raises InputError for an unknown name or parameter, and for a weight that is none.
    """

    def __init__(self, settings: Mapping[str, Any], sample_rate: int = 16000):
        super().__init__()
        check_keys(settings, names(), "losses")
        split = {name: _weight_and_parameters(name, setting) for name, setting in settings.items()}
        self.weights = check_weights(
            {name: weight for name, (weight, _) in split.items()}, names(), "losses"
        )
        self.functions = nn.ModuleDict(
            {name: _build(name, split[name][1], sample_rate) for name in self.weights}
        )

    @property
    def take_strength(self) -> bool:
        """Whether a weight depends on the generator's strength."""
        return any(function.takes_strength for function in self.functions.values())

    def forward(
        self, enhanced: Tensor, clean: Tensor, noisy: Tensor, strength: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Waveforms (B, 1, T) -> {name: unweighted value}.

        strength: (B,), BALANCED where it is None; `harm` is weighted by it already.
        """
        enhanced, shared = enhanced.to(clean.dtype), {}
        if "harm" in self.functions:  # it computes the spectra of `compressed` as well
            harm: Any = self.functions["harm"]
            after, before = harm.errors(enhanced, noisy, clean=clean, noisy=noisy)
            shared = {"harm": harm.of_errors(after, before, strength), "compressed": after.mean()}
        return {
            name: shared[name] if name in shared else function(enhanced, clean, noisy)
            for name, function in self.functions.items()
        }


def _weight_and_parameters(name: str, setting: Any) -> tuple[Any, dict[str, Any]]:
    """The weight of a loss and its parameters, from what an experiment says of it."""
    where = f"losses: {name}"
    if name == "harm" and isinstance(setting, list):
        gentle, strong = check_interval(setting[::-1], where, low=1e-6)[::-1]
        return 1.0, {"gentle": gentle, "strong": strong}
    if not isinstance(setting, Mapping):
        return setting, {}
    if "weight" not in setting:
        raise InputError(f'{where}: "weight" is missing')
    return setting["weight"], {key: value for key, value in setting.items() if key != "weight"}


def _build(name: str, parameters: Mapping[str, Any], sample_rate: int) -> Loss:
    def probe(loss: Loss) -> None:
        loss(*torch.zeros(3, 1, 1, 64))

    package = sys.modules[__name__]
    return registry.build(package, "Loss", name, parameters, probe, sample_rate=sample_rate)


def __getattr__(name: str) -> Any:
    """AdversarialLosses by its old name, which goes with the next release."""
    if name != "AdversarialLosses":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gan_denoise.adversarial import AdversarialLosses

    message = "gan_denoise.losses.AdversarialLosses is in gan_denoise.adversarial now"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return AdversarialLosses


def reference_power(clean: Tensor, noisy: Tensor) -> Tensor:
    """The mean square by which an item's errors are judged: (B, 1, T) twice -> (B, 1, 1).

    It is the clean signal's, but at least the share _FAINT of the noisy signal's.
    """
    power, heard = (wave.square().mean(dim=(1, 2), keepdim=True) for wave in (clean, noisy))
    return torch.maximum(power, _FAINT * heard)


def check_weights(
    weights: Mapping[str, Any], allowed: Iterable[str], where: str
) -> dict[str, float]:
    """The weights above 0.

    Raises InputError for an unknown name, a weight that is no number, and where none is above 0.
    """
    check_keys(weights, allowed, where)
    for name, weight in weights.items():
        check_number(weight, f"{where}: {name}", low=0.0)
    if not any(weights.values()):
        raise InputError(f"{where}: no loss has a weight above 0")
    return {name: float(weight) for name, weight in weights.items() if weight > 0}


def weighted_sum(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of weight x term. Raises ValueError unless exactly the weighted terms were computed."""
    if terms.keys() != weights.keys():
        raise ValueError(
            f"terms {sorted(terms)} were computed, terms {sorted(weights)} have weights"
        )
    first, *others = (weights[name] * term for name, term in terms.items())
    return sum(others, start=first)
