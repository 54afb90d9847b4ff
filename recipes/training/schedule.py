"""The schedule of the updates: phases, data and random numbers as pure functions of the update.

    reconstruction    warm_start_steps updates of the generator with the reconstruction losses alone
    discriminator     discriminator_steps updates of the discriminators alone, on their own segments
    gan               every update is one of the discriminators, then one of the generator, until
                      the generator had `steps`

Without an adversary all updates are of the first kind.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from training.experiment import Experiment


@dataclass(frozen=True)
class Schedule:
    """The numbers of updates in each phase.

    steps: updates of the generator. warm_start: those of them before the adversary enters. alone:
    updates of the discriminators alone.
    """

    steps: int
    warm_start: int
    alone: int
    adversarial: bool

    @classmethod
    def of(cls, experiment: Experiment) -> Schedule:
        steps, warm_start = experiment.steps, experiment.warm_start_steps
        adversarial = experiment.adversary is not None
        return cls(
            steps, warm_start, experiment.discriminator_steps if adversarial else 0, adversarial
        )

    @property
    def updates(self) -> int:
        """All updates, the discriminator-only ones included."""
        return self.steps + self.alone

    @property
    def borders(self) -> set[int]:
        """The last updates of the phases.

        Without an adversary the warm start has an end as well, since other runs may share it.
        """
        return {self.warm_start, self.warm_start + self.alone}

    def phase(self, update: int) -> str:
        """reconstruction, discriminator or gan, for update 1 to `updates`."""
        if not self.adversarial or update <= self.warm_start:
            return "reconstruction"
        return "discriminator" if update <= self.warm_start + self.alone else "gan"

    def step(self, update: int) -> int:
        """How many updates the generator has had after this one."""
        return update - self.discriminator_only(update)

    def discriminator_only(self, update: int) -> int:
        """How many discriminator-only updates there have been after this one."""
        return min(max(update - self.warm_start, 0), self.alone)

    def draw(self, update: int) -> tuple[str, int]:
        """The name of an update's draws of data and random numbers, and its number among them.

        The discriminators' own phase has its own draws, so the generator sees the same data with
        and without an adversary.
        """
        if self.phase(update) == "discriminator":
            return "discriminator", self.discriminator_only(update)
        return "generator", self.step(update)


def random_number(*key: int | str) -> int:
    """A whole number below 2^63 that is a function of the key, such as (seed, "crop", update).

    So no state of a random generator needs saving.
    """
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little") >> 1
