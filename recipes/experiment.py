"""An experiment's settings: read, checked, and compared with those that a run was started with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from conditions import check_fresh_noise

import gan_denoise
from gan_denoise.config import check_interval, check_keys, check_number, load_experiment
from gan_denoise.errors import InputError
from gan_denoise.noise import digest
from gan_denoise.scenes import check_scenes

# Every setting that is a number: its lowest value, and whether it is a whole one
NUMBERS = {
    "seed": (0, True),
    "steps": (1, True),
    "warm_start_steps": (0, True),
    "discriminator_steps": (0, True),
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
OPTIMIZER_NUMBERS = {
    "lr": (0, False),
    "lr_final": (0, False),
    "weight_decay": (0, False),
    "warmup_steps": (0, True),
}
ADVERSARY_NUMBERS = {
    "segment_s": (1e-3, False),
    "pre_emphasis": (0, False),
    "clip_norm": (1e-3, False),
}
REQUIRED = {
    *NUMBERS,
    "generator",
    "losses",
    "gain_db",
    "fresh_noise",
    "optimizer",
    "precision",
    "trackers",
}
OPTIONAL = {"init", "adversary", "licence", "scenes"}
ADVERSARY_REQUIRED = {*ADVERSARY_NUMBERS, "discriminators", "conditional", "losses", "optimizer"}
# precision -> what accelerate calls it, and the type of the weights
PRECISIONS = {
    "float32": ("no", torch.float32),
    "bf16": ("bf16", torch.float32),
    "float64": ("no", torch.float64),
}
# What the weights do not depend on until the adversary enters
PHASES = {"adversary", "discriminator_steps"}
# What may differ when a run goes on, since the weights do not depend on it
FREE_TO_CHANGE = {"workers", "log_every", "checkpoint_every", "trackers", "licence"}
FREE_TO_CHANGE |= {key for key in NUMBERS if key.startswith("validate_")}


def read_experiment(path: Path, overrides: Iterable[str]) -> dict:
    """Load an experiment with its overrides; every key is known, present and of a sensible value.
    Raises InputError.

    What stands below `generator`, `losses` and `discriminators` is checked by those who build them.
    """
    experiment, source = load_experiment(path, overrides), str(path)
    _check(experiment, NUMBERS, REQUIRED, OPTIONAL, source)
    _check_optimizer(experiment["optimizer"], f"{source}: optimizer")
    check_number(experiment["seed"], f"{source}: seed", low=0, high=2**32 - 1, whole=True)
    check_number(experiment["segment_s"], f"{source}: segment_s", low=1e-3, high=600.0)
    check_number(experiment["ema_decay"], f"{source}: ema_decay", low=0.0, high=0.999999)
    check_interval(experiment["gain_db"], f"{source}: gain_db", low=-100.0, high=100.0)
    check_fresh_noise(experiment["fresh_noise"], f"{source}: fresh_noise")
    if "scenes" in experiment:
        check_scenes(experiment["scenes"], f"{source}: scenes")
        if experiment["fresh_noise"] is not False:
            raise InputError(
                f"{source}: scenes and fresh_noise both make the noise: set fresh_noise=false"
            )
    if experiment["precision"] not in list(PRECISIONS):
        raise InputError(
            f"{source}: precision: expected one of {', '.join(PRECISIONS)}, found"
            f" {experiment['precision']!r}"
        )
    _check_trackers(experiment["trackers"], f"{source}: trackers")
    for key, expected in {
        "init": "a model directory",
        "licence": "that of the weights, as text",
    }.items():
        if not isinstance(experiment.get(key, ""), str):
            raise InputError(f"{source}: {key}: expected {expected}, found {experiment[key]!r}")
    if "adversary" in experiment:
        adversary, where = experiment["adversary"], f"{source}: adversary"
        _check(adversary, ADVERSARY_NUMBERS, ADVERSARY_REQUIRED, set(), where)
        _check_optimizer(adversary["optimizer"], f"{where}: optimizer")
        _check_switch(adversary["conditional"], f"{where}: conditional")
        check_number(
            adversary["segment_s"], f"{where}: segment_s", low=1e-3, high=experiment["segment_s"]
        )
        check_number(adversary["pre_emphasis"], f"{where}: pre_emphasis", low=0.0, high=1.0)
        if experiment["warm_start_steps"] >= experiment["steps"]:
            raise InputError(
                f"{source}: warm_start_steps={experiment['warm_start_steps']} leaves the adversary"
                f" none of steps={experiment['steps']}: lower it, or set adversary=null"
            )
    return experiment


def _check_optimizer(optimizer: dict, where: str) -> None:
    _check(optimizer, OPTIMIZER_NUMBERS, {*OPTIMIZER_NUMBERS, "betas"}, set(), where)
    check_interval(optimizer["betas"], f"{where}: betas", low=0.0, high=0.9999)


def _check_switch(value: object, where: str) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{where}: expected true or false, found {value!r}")


def _check_trackers(trackers: object, where: str) -> None:
    if not isinstance(trackers, list) or not all(isinstance(tracker, str) for tracker in trackers):
        raise InputError(f"{where}: expected a list of names, such as [wandb], found {trackers!r}")
    # Which is always written
    here = {str(tracker) for tracker in get_available_trackers()} - {"tensorboard"}
    if "tensorboard" in trackers:
        raise InputError(f"{where}: tensorboard is always written: leave it out")
    for tracker in trackers:
        if tracker not in here:
            raise InputError(
                f"{where}: {tracker} is not there (there are: {', '.join(sorted(here)) or 'none'}):"
                " install it"
            )


def _check(
    settings: dict,
    numbers: dict[str, tuple[float, bool]],
    required: set[str],
    optional: set[str],
    where: str,
) -> None:
    _check_complete(settings, required, optional, where)
    for key, (low, whole) in numbers.items():
        check_number(settings[key], f"{where}: {key}", low=low, whole=whole)


def _check_complete(settings: dict, required: set[str], optional: set[str], where: str) -> None:
    check_keys(settings, required | optional, where)
    for key in sorted(required - settings.keys()):
        raise InputError(f'{where}: "{key}" is missing')


def what_decides(experiment: dict) -> dict:
    """The settings that the weights depend on."""
    return {key: value for key, value in experiment.items() if key not in FREE_TO_CHANGE}


def warm_start_key(identity: dict, accelerator: Accelerator) -> str:
    """A digest of all that the weights depend on until the adversary enters, our own code included.

    identity: what_decides(), data, noise, rate.
    """
    experiment = {key: value for key, value in identity["experiment"].items() if key not in PHASES}
    layout = [
        accelerator.num_processes,
        accelerator.device.type,
        torch.get_num_threads(),
        torch.__version__,
    ]
    folders = Path(__file__).parent, Path(gan_denoise.__file__).parent
    code = [
        path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(folder.rglob("*.py"))
    ]
    start = (
        digest_of_file(Path(experiment["init"]) / "model.safetensors")
        if "init" in experiment
        else None
    )
    return digest([identity | {"experiment": experiment}, layout, code, start])


def digest_of_file(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def check_same_run(stored: dict, current: dict, exp: Path) -> None:
    """Refuse to go on with a run that was started with other data or settings."""
    for key in ("data", "noise", "fresh_noise", "scenes", "sample_rate"):
        if stored.get(key) != current.get(key):
            raise InputError(
                f"{exp}: was trained on other data ({key} differs): name its --data, or choose"
                " another --exp"
            )
    if differing := _differing(stored["experiment"], current["experiment"]):
        raise InputError(
            f"{exp}: was started with other settings ({differing}): repeat them, or choose another"
            " --exp"
        )


def _differing(stored: dict, current: dict, prefix: str = "") -> str:
    for key in sorted(stored.keys() | current.keys()):
        old, new = stored.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if found := _differing(old, new, f"{prefix}{key}."):
                return found
        elif old != new:
            return f"{prefix}{key} was {old}, is {new}"
    return ""
