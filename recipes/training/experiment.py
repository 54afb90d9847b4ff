"""An experiment's settings: read, checked, and compared with those that a run was started with.

The module does without torch, so that many experiments can be read quickly (recipes/plan.py).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

from gan_denoise.config import check_interval, check_keys, check_number, load_experiment
from gan_denoise.corruption.scene_settings import check_fresh_noise, check_scenes
from gan_denoise.errors import InputError
from gan_denoise.packaged import model_folder


class From(NamedTuple):
    """Beside the type of a numeric setting: its lowest value."""

    low: float


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """AdamW, and its learning rate over the steps.

    muon: the momentum of Muon, which then moves the weight matrices between the first and the last
    layer (training/optimizer.py).
    """

    lr: Annotated[float, From(0)]
    lr_final: Annotated[float, From(0)]
    weight_decay: Annotated[float, From(0)]
    warmup_steps: Annotated[int, From(0)]
    betas: list[float]
    muon: float | None = None


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """A discriminator that learns PESQ (training/critic.py).

    weight: of its term in the generator's loss. The settings below `discriminators` are checked
    when the discriminators are built.
    """

    weight: Annotated[float, From(0)]
    discriminators: dict
    self_correcting: bool = False


@dataclass(frozen=True, kw_only=True)
class AdversarySettings:
    """The discriminators and how they are used (training/adversary.py).

    The settings below `discriminators` and `losses` are checked when these are built.
    """

    discriminators: dict = field(default_factory=dict)
    conditional: bool
    losses: dict = field(default_factory=dict)
    metric: MetricSettings | None = None
    optimizer: OptimizerSettings
    segment_s: Annotated[float, From(1e-3)]
    pre_emphasis: Annotated[float, From(0)]
    clip_norm: Annotated[float, From(1e-3)]


@dataclass(frozen=True, kw_only=True)
class DistilSettings:
    """The folder of a model that teaches (training/distil.py), and its weight in the loss.

    An experiment names it by a path, in which environment variables may stand, or by the name of a
    packaged model.
    """

    teacher: Path
    weight: Annotated[float, From(0)]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All settings of an experiment; recipes/experiments/gan.yaml explains each.

    The settings below `generator` and `losses` are checked when these are built. written: the
    settings as the YAML has them.
    """

    generator: dict
    losses: dict
    optimizer: OptimizerSettings
    seed: Annotated[int, From(0)]
    steps: Annotated[int, From(1)]
    warm_start_steps: Annotated[int, From(0)]
    discriminator_steps: Annotated[int, From(0)]
    batch_size: Annotated[int, From(1)]
    segment_s: Annotated[float, From(1e-3)]
    gain_db: list[float]
    fresh_noise: bool | dict
    clip_norm: Annotated[float, From(1e-3)]
    ema_decay: Annotated[float, From(0)]
    precision: str
    workers: Annotated[int, From(0)]
    log_every: Annotated[int, From(1)]
    checkpoint_every: Annotated[int, From(1)]
    validate_every: Annotated[int, From(1)]
    validate_utterances: Annotated[int, From(1)]
    validate_examples: Annotated[int, From(0)]
    trackers: list[str]
    init: str | None = None
    scenes: dict | None = None
    cut: Annotated[int, From(1)] = 1
    distil: DistilSettings | None = None
    adversary: AdversarySettings | None = None
    licence: str | None = None
    written: dict

    @property
    def decides(self) -> dict:
        """The settings that the weights depend on."""
        return {key: value for key, value in self.written.items() if key not in FREE_TO_CHANGE}

    @property
    def start(self) -> Path | None:
        """The folder of the model to start from. Raises InputError for a name of none."""
        return model_folder(self.init) if self.init else None


# precision -> accelerate's name of it, and torch's name of the weights' type
PRECISIONS = {
    "float32": ("no", "float32"),
    "bf16": ("bf16", "float32"),
    "float64": ("no", "float64"),
}
# accelerate's trackers, except for tensorboard, which is always written
TRACKERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "trackio", "wandb")
# Keys on which the weights do not depend until the adversary enters
PHASES = {"adversary", "discriminator_steps"}
# Names of other folders beside the runs (run.sh), and of rows in the tables of results
TAKEN = {"noisy", "oracle_mag", "oracle_mask", "warm_starts", "slurm"}
# Keys of an experiment's file for its readers (recipes/reporting/experiments.py), not for the
# training: an experiment does not inherit those of its base
NOTES = ("compare_with", "summary")
# Keys that may differ when a run goes on, since the weights do not depend on them
FREE_TO_CHANGE = {"workers", "log_every", "checkpoint_every", "trackers", "licence"}
FREE_TO_CHANGE |= {"validate_every", "validate_utterances", "validate_examples"}


def sorted_out(words: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Split the words of a command line into experiment files and `key=value` settings.

    A path may hold a `=` as well, after a `/` or in the name of an existing file.
    """
    paths, settings = [], []
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and "/" not in name and not _is_file(word):
            settings.append(word)
        else:
            paths.append(Path(word))
    return paths, settings


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except OSError:  # no file has such a name
        return False


def check_name(exp: Path) -> None:
    """Refuse a folder of a run whose name is taken by something else. Raises InputError."""
    if exp.name in TAKEN:
        raise InputError(
            f"{exp}: {exp.name} is not the name of an experiment in a folder of results: give it"
            " another"
        )


def read_experiment(
    path: Path, overrides: Iterable[str], procedures: Path, promised: Collection[Path] = ()
) -> Experiment:
    """Load an experiment with its overrides, and check all settings.

    Every key must be valid, present and of a sensible value. procedures: folder of the noise
    procedures that `fresh_noise` may name. promised: model directories that need not exist yet.
    Raises InputError.
    """
    overrides, source = list(overrides), str(path)
    if told := [key for key in NOTES if any(pair.startswith(f"{key}=") for pair in overrides)]:
        raise InputError(f"{source}: {told[0]} belongs in the file, not in an override")
    written = load_experiment(path, overrides)
    written = {key: value for key, value in written.items() if key not in NOTES}
    _check(Experiment, written, source)
    optimizer = _optimizer(written["optimizer"], f"{source}: optimizer")
    check_number(written["seed"], f"{source}: seed", low=0, high=2**32 - 1, whole=True)
    check_number(written["segment_s"], f"{source}: segment_s", low=1e-3, high=600.0)
    check_number(written["ema_decay"], f"{source}: ema_decay", low=0.0, high=0.999999)
    check_interval(written["gain_db"], f"{source}: gain_db", low=-100.0, high=100.0)
    check_fresh_noise(written["fresh_noise"], f"{source}: fresh_noise", procedures)
    if "scenes" in written:
        check_scenes(written["scenes"], f"{source}: scenes")
        if written["fresh_noise"] is not False:
            raise InputError(
                f"{source}: scenes and fresh_noise both make the noise: set fresh_noise=false"
            )
        if "cut" in written:
            raise InputError(f"{source}: cut: scenes make their excerpts themselves: leave it out")
    if written["precision"] not in list(PRECISIONS):
        raise InputError(
            f"{source}: precision: expected one of {', '.join(PRECISIONS)}, found"
            f" {written['precision']!r}"
        )
    _check_trackers(written["trackers"], f"{source}: trackers")
    for key, expected in {
        "init": "a model directory, or the name of a model of the package",
        "licence": "that of the weights, as text",
    }.items():
        if not isinstance(written.get(key, ""), str):
            raise InputError(f"{source}: {key}: expected {expected}, found {written[key]!r}")
    adversary = None
    if "adversary" in written:
        adversary = _adversary(written["adversary"], f"{source}: adversary", written["segment_s"])
        if written["warm_start_steps"] >= written["steps"]:
            raise InputError(
                f"{source}: warm_start_steps={written['warm_start_steps']} leaves the adversary"
                f" none of steps={written['steps']}: lower it, or set adversary=null"
            )
    parts: dict[str, Any] = {"optimizer": optimizer, "adversary": adversary, "written": written}
    if "distil" in written:
        parts["distil"] = _distil(written["distil"], f"{source}: distil", promised)
    return Experiment(**(written | parts))


def _optimizer(written: dict, where: str) -> OptimizerSettings:
    _check(OptimizerSettings, written, where)
    check_interval(written["betas"], f"{where}: betas", low=0.0, high=0.9999)
    if "muon" in written:
        check_number(written["muon"], f"{where}: muon", low=0.0, high=0.9999)
    return OptimizerSettings(**written)


def _adversary(written: dict, where: str, longest_s: float) -> AdversarySettings:
    _check(AdversarySettings, written, where)
    optimizer = _optimizer(written["optimizer"], f"{where}: optimizer")
    if not isinstance(written["conditional"], bool):
        raise InputError(
            f"{where}: conditional: expected true or false, found {written['conditional']!r}"
        )
    check_number(written["segment_s"], f"{where}: segment_s", low=1e-3, high=longest_s)
    check_number(written["pre_emphasis"], f"{where}: pre_emphasis", low=0.0, high=1.0)
    parts: dict[str, Any] = {"optimizer": optimizer}
    if "metric" in written:
        _check(MetricSettings, written["metric"], f"{where}: metric")
        correcting = written["metric"].get("self_correcting", False)
        if not isinstance(correcting, bool):
            raise InputError(
                f"{where}: metric: self_correcting: expected true or false, found {correcting!r}"
            )
        parts["metric"] = MetricSettings(**written["metric"])
        if written.get("losses") and not written.get("discriminators"):
            raise InputError(f"{where}: losses: apply to discriminators, and there are none")
    return AdversarySettings(**(written | parts))


def _distil(written: dict, where: str, promised: Collection[Path]) -> DistilSettings:
    _check(DistilSettings, written, where)
    name = os.path.expandvars(str(written["teacher"]))
    try:
        teacher = model_folder(name)
    except InputError as error:
        raise InputError(f"{where}: teacher: {error}") from error
    if not has_model(teacher) and teacher.resolve() not in promised:
        raise InputError(
            f"{where}: teacher: {name} is not a model directory: train one, or set what its path"
            " names"
        )
    return DistilSettings(teacher=teacher, weight=written["weight"])


def has_model(folder: Path) -> bool:
    """Whether a folder is a whole model directory: the weights come last."""
    return (folder / "model.safetensors").is_file()


def _check_trackers(trackers: object, where: str) -> None:
    if not isinstance(trackers, list) or not all(isinstance(tracker, str) for tracker in trackers):
        raise InputError(f"{where}: expected a list of names, such as [wandb], found {trackers!r}")
    if "tensorboard" in trackers:
        raise InputError(f"{where}: tensorboard is always written: leave it out")
    here = [tracker for tracker in TRACKERS if importlib.util.find_spec(tracker)]
    for tracker in trackers:
        if tracker not in here:
            raise InputError(
                f"{where}: {tracker} is not there (there are: {', '.join(here) or 'none'}):"
                " install it"
            )


def _check(settings: type, written: Any, where: str) -> None:
    """Check the keys and the numbers of `written` against the fields of `settings`.

    Every key must be a field, none without a default may be missing, and numbers must be in range.
    Raises InputError.
    """
    members = [each for each in fields(settings) if each.name != "written"]
    check_keys(written, [each.name for each in members], where)
    for key in sorted(
        each.name for each in members if each.default is MISSING and each.default_factory is MISSING
    ):
        if key not in written:
            raise InputError(f'{where}: "{key}" is missing')
    for key, kind in get_type_hints(settings, include_extras=True).items():
        for lowest in getattr(kind, "__metadata__", ()):
            whole = kind.__origin__ is int
            if key in written:
                check_number(written[key], f"{where}: {key}", low=lowest.low, whole=whole)


def check_same_run(stored: Mapping, current: Mapping, exp: Path) -> None:
    """Refuse to go on with a run that was started with other data or settings.

    Raises InputError.
    """
    if stored.get("teacher") != current.get("teacher"):
        raise InputError(
            f"{exp}: was trained with another teacher: name that one, or choose another --exp"
        )
    for key in ("data", "noise", "fresh_noise", "scenes", "sample_rate"):
        if stored.get(key) != current.get(key):
            raise InputError(
                f"{exp}: was trained on other data ({key} differs): name its --data, or choose"
                " another --exp"
            )
    check_settings(stored["experiment"], current["experiment"], exp)
    if current.get("init") not in (None, stored.get("init")):
        raise InputError(f"{exp}: was started from another model: name it, or choose another --exp")


def check_settings(stored: Mapping, current: Mapping, exp: Path) -> None:
    """Refuse to go on with a run that was started with other settings than `current`.

    Both are mappings as in Experiment.decides. Raises InputError.
    """
    if differing := _differing(stored, current):
        raise InputError(
            f"{exp}: was started with other settings ({differing}): repeat them, or choose another"
            " --exp"
        )


def _differing(stored: Mapping, current: Mapping, prefix: str = "") -> str:
    for key in sorted(stored.keys() | current.keys()):
        old, new = stored.get(key), current.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if difference := _differing(old, new, f"{prefix}{key}."):
                return difference
        elif old != new:
            return f"{prefix}{key} was {old}, is {new}"
    return ""
