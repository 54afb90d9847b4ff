"""How a search draws its settings: by optuna's TPE, so that every draw can be repeated.

What a trial is given is a function of the study's seed, the trial's number and the trials before
it. It does not matter which process asks, or how often that was started.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from gan_denoise.system.files import digest

_RANDOM = 8  # trials before it begins to learn from them


class NumberedSampler(optuna.samplers.BaseSampler):
    """A TPE sampler that draws each trial by the seed and the trial's number.

    optuna's own samplers begin with their seed again in every process, and would draw the first
    settings once more.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._own = self._of(0)

    def _of(self, number: int) -> optuna.samplers.TPESampler:
        return optuna.samplers.TPESampler(
            seed=int(digest([self._seed, number]), 16) % 2**32,
            multivariate=True,
            constant_liar=True,
            n_startup_trials=_RANDOM,
        )

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What optuna asks first of a new trial."""
        self._own = self._of(trial.number)
        return self._own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._own.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._own.sample_independent(study, trial, param_name, param_distribution)
