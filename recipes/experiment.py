"""An experiment's settings: read, checked, and compared with those that a run was started with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gan_denoise.config import check_interval, check_keys, check_number, load_experiment
from gan_denoise.errors import InputError

# Every setting that is a number: its lowest value, and whether it is a whole one
NUMBERS = {
    "seed": (0, True),
    "steps": (1, True),
    "batch_size": (1, True),
    "segment_s": (1e-3, False),
    "clip_norm": (1e-3, False),
    "ema_decay": (0, False),
    "workers": (0, True),
    "log_every": (1, True),
    "checkpoint_every": (1, True),
    "validate_every": (1, True),
    "validate_utterances": (1, True),
    "validate_examples": (0, True),
}
OPTIMIZER_NUMBERS = {"lr": (0, False), "lr_final": (0, False), "weight_decay": (0, False), "warmup_steps": (0, True)}
REQUIRED = {*NUMBERS, "generator", "losses", "gain_db", "optimizer", "precision"}
OPTIONAL = {"init"}
# What may differ when a run goes on, since the weights do not depend on it
FREE_TO_CHANGE = {"workers", "log_every", "checkpoint_every"} | {key for key in NUMBERS if key.startswith("validate_")}


def read_experiment(path: Path, overrides: Iterable[str]) -> dict:
    """Load an experiment with its overrides; every key is known, present and of a sensible value. Raises InputError.

    What stands below `generator` and `losses` is checked by those who build them.
    """
    experiment, source = load_experiment(path, overrides), str(path)
    optimizer = experiment.get("optimizer", {})
    _check_complete(experiment, REQUIRED, OPTIONAL, source)
    _check_complete(optimizer, {*OPTIMIZER_NUMBERS, "betas"}, set(), f"{source}: optimizer")
    for settings, numbers, where in (
        (experiment, NUMBERS, source),
        (optimizer, OPTIMIZER_NUMBERS, f"{source}: optimizer"),
    ):
        for key, (low, whole) in numbers.items():
            check_number(settings[key], f"{where}: {key}", low=low, whole=whole)
    check_number(experiment["seed"], f"{source}: seed", low=0, high=2**32 - 1, whole=True)
    check_number(experiment["segment_s"], f"{source}: segment_s", low=1e-3, high=600.0)
    check_number(experiment["ema_decay"], f"{source}: ema_decay", low=0.0, high=1.0)
    check_interval(experiment["gain_db"], f"{source}: gain_db", low=-100.0, high=100.0)
    check_interval(optimizer["betas"], f"{source}: optimizer: betas", low=0.0, high=0.9999)
    if experiment["precision"] not in ("float32", "bf16"):
        raise InputError(f"{source}: precision: expected float32 or bf16, found {experiment['precision']!r}")
    return experiment


def _check_complete(settings: dict, required: set[str], optional: set[str], where: str) -> None:
    check_keys(settings, required | optional, where)
    for key in sorted(required - settings.keys()):
        raise InputError(f'{where}: "{key}" is missing')


def what_decides(experiment: dict) -> dict:
    """The settings that the weights depend on."""
    return {key: value for key, value in experiment.items() if key not in FREE_TO_CHANGE}


def check_same_run(stored: dict, current: dict, exp: Path) -> None:
    """Refuse to go on with a run that was started with other data or settings."""
    for key in ("data", "noise", "sample_rate"):
        if stored[key] != current[key]:
            raise InputError(
                f"{exp}: was trained on other data ({key} differs): name its --data, or choose another --exp"
            )
    if differing := _differing(stored["experiment"], current["experiment"]):
        raise InputError(f"{exp}: was started with other settings ({differing}): repeat them, or choose another --exp")


def _differing(stored: dict, current: dict, prefix: str = "") -> str:
    for key in sorted(stored.keys() | current.keys()):
        old, new = stored.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if found := _differing(old, new, f"{prefix}{key}."):
                return found
        elif old != new:
            return f"{prefix}{key} was {old}, is {new}"
    return ""
