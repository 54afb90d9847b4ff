"""Adversarial losses of the outputs of a bank of discriminators.

An output is a list over sub-discriminators of their feature maps, the score map last. Sums are
divided by the number of sub-discriminators, so that an ablation which removes one does not re-weigh
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from gan_denoise.contract import Maps
from gan_denoise.errors import InputError
from gan_denoise.losses import check_weights


def _sum(terms: Iterable[Tensor]) -> Tensor:
    """The sum of at least one term."""
    first, *others = terms
    return sum(others, start=first)


class Objective(NamedTuple):
    """What the two sides minimise, as functions of the maps of real and of fake.

    compares: whether the generator's side looks at real, as a relativistic objective does
    (Jolicoeur-Martineau 2019).
    """

    generator: Callable[[Maps, Maps], Tensor]
    discriminator: Callable[[Maps, Maps], Tensor]
    compares: bool = False


def lsgan(real: Maps, fake: Maps) -> Tensor:
    """Least squares (Mao et al. 2017), the generator's side: scores of fake shall be 1."""
    return _sum((maps[-1] - 1.0).square().mean() for maps in fake) / len(fake)


def hinge(real: Maps, fake: Maps) -> Tensor:
    """Hinge (Lim and Ye 2017), the generator's side: scores of fake shall be high."""
    return -_sum(maps[-1].mean() for maps in fake) / len(fake)


def lsgan_discriminator(real: Maps, fake: Maps) -> Tensor:
    """Least squares (Mao et al. 2017): scores of real shall be 1, of fake 0."""
    losses = (
        (r[-1] - 1.0).square().mean() + f[-1].square().mean()
        for r, f in zip(real, fake, strict=True)
    )
    return _sum(losses) / len(real)


def hinge_discriminator(real: Maps, fake: Maps) -> Tensor:
    """Hinge (Lim and Ye 2017): scores of real shall be above 1, of fake below -1."""
    losses = (
        F.relu(1.0 - r[-1]).mean() + F.relu(1.0 + f[-1]).mean()
        for r, f in zip(real, fake, strict=True)
    )
    return _sum(losses) / len(real)


def feature_matching(real: Maps, fake: Maps) -> Tensor:
    """L1 distance of feature maps: mean over each map, sum over a sub-discriminator's maps.

    Kumar et al. 2019, section 2.3; Kong et al. 2020, eq. 5.
    """
    pairs = (
        (r, f)
        for reals, fakes in zip(real, fake, strict=True)
        for r, f in zip(reals[:-1], fakes[:-1], strict=True)
    )
    return _sum(F.l1_loss(f, r) for r, f in pairs) / len(real)


OBJECTIVES = {
    "lsgan": Objective(lsgan, lsgan_discriminator),
    "hinge": Objective(hinge, hinge_discriminator),
}


class AdversarialLosses:
    """The adversarial losses of an experiment, with their weights.

    weights: of one of OBJECTIVES, and of `feature_matching` if the experiment uses it. Raises
    InputError.
    """

    def __init__(self, weights: Mapping[str, float]):
        where = "adversary: losses"
        self.weights = check_weights(weights, [*OBJECTIVES, "feature_matching"], where)
        chosen = [name for name in OBJECTIVES if name in self.weights]
        if len(chosen) != 1:
            raise InputError(f"{where}: expected a weight for one of {' and '.join(OBJECTIVES)}")
        self.kind, self.objective = chosen[0], OBJECTIVES[chosen[0]]
        self.matches_features = "feature_matching" in self.weights
        self.reads_real = self.matches_features or self.objective.compares

    def discriminator(self, real: Maps, fake: Maps) -> Tensor:
        """What the discriminators minimise."""
        return self.objective.discriminator(real, fake)

    def __call__(self, real: Maps, fake: Maps) -> dict[str, Tensor]:
        """What the generator minimises: {name: unweighted value}.

        real: may be empty unless `reads_real`.
        """
        terms = {self.kind: self.objective.generator(real, fake)}
        if self.matches_features:
            terms["feature_matching"] = feature_matching(real, fake)
        return terms
