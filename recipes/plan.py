#!/usr/bin/env python3
"""Check all trainings of a run before its first stage, so that no mistake is found hours later.

    plan.py [--run SEED FOLDER EXPERIMENT.yaml ...] [--noise FILE ...] [--sample-rate HZ] [--build]
            [--side-by-side] [key=value ...]

run.sh calls it. It reads every training as train.py will read it, with its seed and the settings of
all, in under a second. A teacher, or a model to start from, may be one that an earlier of these
trainings makes, unless they train side by side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gan_denoise.corruption.noise import Procedure
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program
from reporting.experiments import read_notes
from training.experiment import (
    Experiment,
    check_name,
    check_settings,
    has_model,
    read_experiment,
    sorted_out,
)

PROCEDURES = Path(__file__).resolve().parents[1] / "egs/vctk/conf"


@dataclass(frozen=True)
class Planned:
    """A training to come, or one that is finished.

    It has a folder, and an experiment, which was read from the file `path`.
    """

    folder: Path
    path: Path
    experiment: Experiment
    finished: bool


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--run",
        nargs=3,
        action="append",
        default=[],
        metavar=("SEED", "FOLDER", "EXPERIMENT"),
        help="seed, folder and experiment file of a training; once for each training",
    )
    parser.add_argument(
        "--noise",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a file that describes noise, to be checked; may be repeated",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        default=16000,
        metavar="HZ",
        help="sample rate of the data (default 16000)",
    )
    parser.add_argument(
        "--build", action="store_true", help="build the models as well, which takes a few seconds"
    )
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="the trainings run at the same time, so none can use the model of another",
    )
    parser.add_argument(
        "settings", nargs="*", metavar="key=value", help="changes to the settings of all trainings"
    )
    arguments = parser.parse_args()
    paths, settings = sorted_out(arguments.settings)
    if paths:
        raise InputError(f'--train-opts: expected key=value, found "{paths[0]}"')
    for path in arguments.noise:
        Procedure.load(path)
    planned = plan(arguments.run, settings, side_by_side=arguments.side_by_side)
    to_come = [run for run in planned if not run.finished]
    if arguments.build and to_come:
        build(to_come, arguments.sample_rate)


def plan(
    runs: Iterable[tuple[str, str, str]], settings: list[str], *, side_by_side: bool
) -> list[Planned]:
    """Read every (seed, folder, experiment file).

    Raises InputError for the first that cannot be read.
    """
    planned: list[Planned] = []
    for seed, folder, file in runs:
        exp, path = Path(folder), Path(file)
        check_name(exp)
        if "_seed" in path.stem:
            raise InputError(f"{path}: _seed in its name means the seed of a run: rename it")
        if others := [str(other.path) for other in planned if other.folder == exp]:
            raise InputError(f"{path}: would train in {exp}, as {others[0]} does: rename one")
        ready = () if side_by_side else made_by(planned)
        experiment = read_experiment(path, [f"seed={seed}", *settings], PROCEDURES, ready)
        if str(experiment.seed) != seed:
            raise InputError(
                f"--train-opts: seed={experiment.seed} would be that of {exp.name}: name seeds by"
                f' --seeds "{experiment.seed}"'
            )
        read_notes(path)
        check_given(path, experiment, ready)
        planned.append(Planned(exp, path, experiment, is_finished(exp, experiment)))
    return planned


def made_by(planned: Iterable[Planned]) -> set[Path]:
    """The model directories that trainings to come will leave."""
    return {(run.folder / name).resolve() for run in planned for name in ("model", "model_best")}


def check_given(path: Path, experiment: Experiment, ready: Iterable[Path]) -> None:
    """Refuse a model to start from, or a folder of recordings, that is not there."""
    try:
        init = experiment.start
    except InputError as error:
        raise InputError(f"{path}: init: {error}") from error
    if init and not has_model(init) and init.resolve() not in ready:
        raise InputError(f"{path}: init: {init} is not a model directory: name one, or train it")
    for entry in (experiment.scenes or {}).get("recordings", ()):
        folder = Path(os.path.expandvars(entry["folder"]))
        if "$" in str(folder) or not folder.is_dir():
            raise InputError(f"{path}: scenes: recordings: {folder}: no such folder")


def is_finished(exp: Path, experiment: Experiment) -> bool:
    """Whether this is the folder of a finished run.

    Raises InputError where that run had other settings.
    """
    if not has_model(exp / "model"):
        return False
    try:
        config = json.loads((exp / "model/config.json").read_text(encoding="utf-8"))
        stored = dict(config["experiment"])
    except (OSError, ValueError, LookupError, TypeError):
        return False  # train.py will say what it is
    check_settings(stored, experiment.decides, exp)
    return True


def build(planned: list[Planned], sample_rate: int) -> None:
    """Build what every experiment names, once, on the CPU.

    Raises InputError for what cannot be built, or differs from what a run that was interrupted has
    built.
    """
    from accelerate import Accelerator

    from gan_denoise import checkpoint
    from training.launch import check_environment
    from training.models import Models
    from training.schedule import Schedule

    check_environment(os.environ)
    accelerator = Accelerator(cpu=True)
    for path, run in {run.path: run for run in planned}.items():
        experiment = run.experiment
        if experiment.distil and not has_model(experiment.distil.teacher):
            experiment = replace(experiment, distil=None)
        try:
            models = Models(accelerator, experiment, Schedule.of(experiment), sample_rate)
            if experiment.start and has_model(experiment.start):
                generator, options = models.bare_generator, experiment.generator
                checkpoint.initialise(generator, experiment.start, options, sample_rate)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    for run in planned:
        begun = run.folder / "checkpoint.pt"
        if begun.is_file():
            identity = checkpoint.load_state(begun).get("identity") or {}
            stored = identity.get("experiment", run.experiment.decides)
            check_settings(stored, run.experiment.decides, run.folder)


if __name__ == "__main__":
    main()
