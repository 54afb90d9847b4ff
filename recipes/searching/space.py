"""A search's question: which settings of an experiment are free, and from where to where."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from gan_denoise.config import check_keys, check_number, merge, parse_overrides, read_yaml
from gan_denoise.errors import InputError
from gan_denoise.system.files import digest

Choice = optuna.distributions.CategoricalDistribution
Whole = optuna.distributions.IntDistribution
Real = optuna.distributions.FloatDistribution
Distribution = Choice | Whole | Real
_KEYS = ("experiment", "settings", "trials", "seed", "space")
_RANGE = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Space:
    """What a search may change, and what stays the same.

    experiment: the file that a trial changes. settings: `key=value` of all trials. trials: how
    many. free: key with dots -> optuna's distribution. seed: of the sampler, and of every training.
    """

    experiment: Path
    settings: tuple[str, ...]
    trials: int
    seed: int
    free: dict[str, Distribution]

    @classmethod
    def read(cls, path: Path, experiments: Path) -> Space:
        """Read a search space from a YAML file.

        experiments: the folder in which `experiment: gan.yaml` is looked for if it does not lie
        beside the space. Raises InputError.
        """
        written = read_yaml(path)
        check_keys(written, _KEYS, str(path))
        for key in ("experiment", "space"):
            if key not in written:
                raise InputError(f'{path}: "{key}" is missing')
        name = str(written["experiment"])
        experiment = next(
            (place / name for place in (path.parent, experiments) if (place / name).is_file()), None
        )
        if experiment is None:
            raise InputError(f"{path}: experiment: {name} is neither here nor in {experiments}")
        trials, seed = written.get("trials", 40), written.get("seed", 0)
        check_number(trials, f"{path}: trials", low=1, whole=True)
        check_number(seed, f"{path}: seed", low=0, high=2**31, whole=True)
        settings, free = written.get("settings") or {}, written["space"]
        for key, mapping in (("settings", settings), ("space", free)):
            if not isinstance(mapping, Mapping):
                raise InputError(f"{path}: {key}: expected a mapping, found {mapping!r}")
        if not free:
            raise InputError(f"{path}: space: names nothing that a trial could change")
        fixed = (f"seed={seed}", *(_pair(key, value) for key, value in settings.items()))
        return cls(
            experiment,
            fixed,
            trials,
            seed,
            {key: _distribution(domain, f"{path}: space: {key}") for key, domain in free.items()},
        )

    def identity(self) -> str:
        """A digest of what is free, and of the sampler's seed; the number of trials may grow."""
        return digest([self.seed, {key: repr(domain) for key, domain in self.free.items()}])

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Values of what is free, by optuna's sampler."""
        values: dict[str, Any] = {}
        for key, domain in self.free.items():
            match domain:
                case Choice():
                    values[key] = trial.suggest_categorical(key, domain.choices)
                case Whole():
                    values[key] = trial.suggest_int(
                        key, domain.low, domain.high, step=domain.step, log=domain.log
                    )
                case Real():
                    values[key] = trial.suggest_float(
                        key, domain.low, domain.high, step=domain.step, log=domain.log
                    )
        return values

    def corner(self) -> dict[str, Any]:
        """The first value of everything: to check that an experiment takes these keys."""
        return {
            key: domain.choices[0] if isinstance(domain, Choice) else domain.low
            for key, domain in self.free.items()
        }

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The command line's `key=value` pairs of a trial."""
        return [*self.settings, *(_pair(key, value) for key, value in values.items())]

    def as_experiment(self, values: Mapping[str, Any], folder: Path) -> dict:
        """The experiment file that a trial amounts to: a base and what differs."""
        diff = read_yaml(self.experiment)
        base = self.experiment.parent / diff.pop("base") if "base" in diff else self.experiment
        diff = diff if base != self.experiment else {}
        changes = merge(diff, parse_overrides(self.overrides(values)), nulls=True)
        return {"base": os.path.relpath(base, folder), **changes}


def _pair(key: str, value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return f"{key}={text.removesuffix(chr(10)).removesuffix(f'{chr(10)}...').strip()}"


def _distribution(written: Any, where: str) -> Distribution:
    if isinstance(written, list):
        if not written or any(isinstance(value, (dict, list)) for value in written):
            raise InputError(f"{where}: expected a list of plain values, found {written!r}")
        return Choice(written)
    check_keys(written, _RANGE, where)
    for key in ("low", "high"):
        check_number(written.get(key), f"{where}: {key}")
    low, high, log, step = (written.get(key) for key in _RANGE)
    if log is not None and not isinstance(log, bool):
        raise InputError(f"{where}: log: expected true or false, found {log!r}")
    whole = all(isinstance(value, int) for value in (low, high, step) if value is not None)
    try:
        if whole:
            return Whole(low, high, bool(log), step or 1)
        return Real(low, high, bool(log), step)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def names(free: Iterable[str]) -> dict[str, str]:
    """Short names for tables: the last word of a key, or more where that is not enough."""
    free, shown = list(free), {}
    for key in free:
        words = key.split(".")
        for count in range(1, len(words) + 1):
            short = ".".join(words[-count:])
            others = [other for other in free if other != key]
            if not any(f".{other}".endswith(f".{short}") for other in others):
                break
        shown[key] = short
    return shown
