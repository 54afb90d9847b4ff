"""Discriminators: one file each, found by its name, used together as one bank.

`discriminators/foo.py` holds one class `Discriminator`, a contract.Discriminator. Its constructor
takes `in_channels` (1, or 2 where the discriminator also gets the noisy signal), `sample_rate` in
Hz where it needs that, and its sizes as keywords with defaults.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gan_denoise import registry
from gan_denoise.config import check_keys
from gan_denoise.contract import Discriminator, Maps
from gan_denoise.errors import InputError


def names() -> list[str]:
    """The names of all discriminators."""
    return registry.names(sys.modules[__name__])


class Bank(nn.Module):
    """All discriminators of an experiment.

    members: name -> sizes. conditional: whether they get (noisy, x) instead of x alone.
    sample_rate: Hz, on which the members' default sizes in samples depend. A member's first weights
    are a function of (seed, name), so an ablation that removes one leaves the others as they were.
    Raises InputError for unknown names and sizes, and for an empty bank.
    """

    def __init__(
        self,
        members: Mapping[str, Mapping],
        *,
        conditional: bool,
        seed: int,
        sample_rate: int = 16000,
    ):
        super().__init__()
        check_keys(members, names(), "discriminators")
        if not members:
            raise InputError(
                "discriminators: there is none: name at least one, or use `adversary: null`"
            )
        self.conditional = conditional
        self.members = nn.ModuleDict()
        for name, sizes in members.items():
            key = hashlib.sha256(f"{seed} {name}".encode()).digest()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int.from_bytes(key[:7], "little"))
                self.members[name] = registry.build(
                    sys.modules[__name__],
                    "Discriminator",
                    name,
                    sizes,
                    self._probe,
                    in_channels=1 + conditional,
                    sample_rate=sample_rate,
                )
                self.members[name].apply(keep_variance)

    def _probe(self, member: Discriminator) -> None:
        member(torch.zeros(1, 1 + self.conditional, 512, dtype=torch.float32))

    def forward(self, wave: Tensor, noisy: Tensor) -> Maps:
        """wave, noisy (B, 1, T) -> the feature maps of all sub-discriminators, as a list of lists.

        The score map is the last of each list.
        """
        if self.conditional:
            wave = torch.cat([noisy, wave], dim=1)
        return [maps for member in self.members.values() for maps in member(wave)]


def keep_variance(layer: nn.Module) -> None:
    """Give a convolution first weights that keep the variance through a stack of leaky ReLUs.

    He et al. 2015. torch's default weights lose five sixths of the variance at every layer: behind
    six layers the score hardly depends on the wave, and small discriminators stay at chance for as
    many updates as our trainings have.
    """
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        weight = nn.init.kaiming_normal_(torch.empty_like(layer.weight), a=0.1)
        if parametrize.is_parametrized(layer, "weight"):  # by weight_norm or spectral_norm
            layer.weight = weight
        else:
            layer.weight.data.copy_(weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
