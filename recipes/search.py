#!/usr/bin/env python3
"""Search the settings of an experiment for the best PESQ on dev, with optuna.

    python recipes/search.py SPACE.yaml [--data DIR] [--out DIR] [--workers N] [--storage URL]
                                        [--cmd local|slurm] [--slurm KEY=VALUE,...]

recipes/searches/ has files to start from. A trial is a training by train.py in a process and a
folder of its own. It reports PESQ at every validation and is stopped if it lies below the median of
the other trials. Test data are never read. The same command again continues the search, and begins
with the trials of workers that were killed. Workers on one machine share the file DIR/study.db.
Workers on several machines share DIR, the data, and the database at URL. With --cmd slurm the
workers are an array job.

It writes to DIR: best.yaml, an experiment; trials.csv; search.html, a page with plots.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import optuna
from optuna.trial import TrialState

from gan_denoise.config import dump_yaml
from gan_denoise.errors import InputError
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import program, say
from searching import cluster
from searching import trial as trials
from searching.sampler import NumberedSampler
from searching.space import Space, names

ROOT = Path(__file__).resolve().parents[1]
_HEARTBEAT_S, _STALE_S = 10, 40  # a worker that has been silent for so long is dead
_WAIT_S, _LOOK_S = 5.0, 0.2
_PLACE = "GAN_DENOISE_SEARCH_WORKER"  # which of --workers this process is, or that the task says it
_TASK = "SLURM_ARRAY_TASK_ID"
_FAILURES = 3  # in a row, from the start, are no bad luck


def arguments_parser() -> argparse.ArgumentParser:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "space", type=Path, metavar="SPACE.yaml", help="file with the settings that are searched"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / "egs/vctk/data",
        metavar="DATA",
        help="folder that holds train and dev (default egs/vctk/data)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the results (default egs/vctk/exp/search_NAME)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="number of trials at a time (default 1)"
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database that workers share, postgresql://... or mysql://... (default: DIR/study.db)",
    )
    parser.add_argument(
        "--cmd",
        choices=("local", "slurm"),
        default="local",
        help="where workers run: on this machine (local, default) or as Slurm jobs",
    )
    parser.add_argument(
        "--slurm",
        default="",
        metavar="KEY=VALUE,...",
        help="options of sbatch for a worker, such as partition=gpu,gpus=1",
    )
    return parser


@program
def main() -> int:
    parser = arguments_parser()
    arguments = parser.parse_args()
    if arguments.workers < 1:
        parser.error("--workers: expected a whole number from 1")
    out = arguments.out or ROOT / "egs/vctk/exp" / f"search_{arguments.space.stem}"
    space = Space.read(arguments.space, ROOT / "recipes/experiments")
    place, asked = worker_place(), {"space": space.identity()}
    options = cluster.sbatch_options(arguments.slurm)
    if options and arguments.cmd == "local":
        raise InputError("--slurm: has no effect without --cmd slurm")
    if not (arguments.data / "train").is_dir():
        raise InputError(f"{arguments.data}: has no train: run stages 0 and 1, or name a --data")
    if not place:  # by whom those were started who have one
        trial = [str(space.experiment), *space.overrides(space.corner())]
        asked |= trials.identity(trial, arguments.data)
    trials.listen()
    out.mkdir(parents=True, exist_ok=True)
    url = arguments.storage or f"sqlite:///{out.resolve()}/study.db"
    study = open_study(url, arguments.space.stem, space.seed, asked)
    if not place and arguments.cmd == "slurm":
        work_on_the_cluster(study, space, arguments.workers, options, out)
        finish(study, space, out)
        return 0
    if _TASK in os.environ and place:
        threads = int(os.environ.get("SLURM_CPUS_PER_TASK", 1))
    else:
        threads = max(1, len(os.sched_getaffinity(0)) // arguments.workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of each training
    if place:
        try:
            work(study, space, arguments.data, out)
        except KeyboardInterrupt:
            return trials.INTERRUPTED  # slurm_job.sh queues it again
        return 0
    work_here(study, space, arguments.workers, arguments.data, out)
    finish(study, space, out)
    return 0


def work_here(study: optuna.Study, space: Space, workers: int, data: Path, out: Path) -> None:
    """Work with all but one of the workers as processes beside this one, until all have ended."""
    helpers = [start_worker(number) for number in range(1, workers)]
    try:
        work(study, space, data, out)
        while any(helper.poll() is None for helper in helpers):
            if trials.stop.wait(_LOOK_S):
                raise KeyboardInterrupt
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.wait()


def worker_place() -> int:
    """Which of the workers this process is, from 1; 0 for the one that was started by hand."""
    written = os.environ.get(_PLACE, "0")
    return int(os.environ[_TASK] if written == _TASK else written)


def work_on_the_cluster(
    study: optuna.Study, space: Space, workers: int, options: list[str], out: Path
) -> None:
    """Start workers as an array job, wait for it, and tell what comes of it.

    Raises InputError where the workers end too early.
    """
    name, logs = f"search-{study.study_name}", out / "slurm"
    told = {trial.number for trial in study.get_trials() if is_finished(trial)}
    if len(told) >= space.trials:
        return
    job = cluster.submit(name, workers, options, logs, **{_PLACE: _TASK})
    say(f"slurm: {workers} workers are the tasks of job {job}; their logs are in {logs}")
    try:
        queued = True
        while queued:
            queued = cluster.is_queued(job)  # before the last look
            all_trials = study.get_trials()
            for trial in all_trials:
                if is_finished(trial) and trial.number not in told:
                    told.add(trial.number)
                    say(progress_line(study, trial, len(told), space.trials))
            if queued and trials.stop.wait(_WAIT_S):
                raise KeyboardInterrupt
    finally:
        cluster.cancel(job)
    if len(told) < space.trials:
        raise InputError(
            f"--cmd slurm: the workers have ended after {len(told)} of {space.trials} trials:"
            f" {cluster.last_error(logs, name, job)}"
        )


def start_worker(place: int) -> subprocess.Popen:
    """The same command, as a worker that writes no report."""
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.Popen(command, env=os.environ | {_PLACE: str(place)})


def open_study(url: str, name: str, seed: int, asked: dict[str, str]) -> optuna.Study:
    """The study at a database's address, made where there is none.

    asked: what its trials have in common, {what: digest}. Raises InputError, also for a study that
    has asked something else.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    shown = re.sub("//[^/@]*@", "//", url)  # without a password
    try:
        storage = optuna.storages.RDBStorage(
            url,
            engine_kwargs={"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None,
            heartbeat_interval=_HEARTBEAT_S,
            grace_period=_STALE_S,
            heartbeat_stale_trial_callback=retry,
        )
    except ImportError as error:
        missing = error.__cause__ or error  # optuna's own names no module
        raise InputError(f"{shown}: its driver is missing ({missing}): pip install it") from error
    except Exception as error:  # of SQLAlchemy and of each driver
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{shown}: cannot be used as a study's database: {reason}") from error
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        sampler=NumberedSampler(seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
    )
    before = study.user_attrs.get("asked") or ({} if study.get_trials(deepcopy=False) else asked)
    if differing := [key for key in asked if before.get(key) != asked[key]]:
        raise InputError(
            f"{name}: this study was begun with other settings ({', '.join(differing)}): repeat"
            " those, or choose another --out"
        )
    study.set_user_attr("asked", before)
    return study


def work(study: optuna.Study, space: Space, data: Path, out: Path) -> None:
    """Run trials until there are enough.

    It waits for those of other workers, since they may die. Raises InputError where none succeeds.
    """

    begun: list[int] = []  # the number of the trial that this worker has begun, if any

    def objective(trial: optuna.Trial) -> float:
        begun.append(trial.number)
        values = space.suggest(trial)
        exp = out / "trials" / f"{original(trial.study.trials[trial.number]):04d}"
        command = [str(space.experiment), *space.overrides(values), "--data", str(data)]
        command += ["--warm-starts", str(out / "warm_starts")]
        try:
            return trials.run(trial, command, exp)
        except trials.TrialFailed as failed:
            trial.set_user_attr("reason", str(failed))
            raise

    while True:
        if trials.stop.is_set():
            raise KeyboardInterrupt
        optuna.storages.fail_stale_trials(study)
        all_trials = study.get_trials(deepcopy=False)
        finished = [trial for trial in all_trials if is_finished(trial)]
        failures = [trial for trial in finished if trial.state == TrialState.FAIL]
        if len(failures) == len(finished) >= _FAILURES:
            raise InputError(
                f"every trial failed, the last with: {failures[-1].user_attrs['reason']}"
            )
        if len(finished) >= space.trials:
            return
        running = sum(trial.state == TrialState.RUNNING for trial in all_trials)
        waiting = any(trial.state == TrialState.WAITING for trial in all_trials)
        if len(finished) + running >= space.trials and not waiting:
            trials.stop.wait(_WAIT_S)
            continue
        begun.clear()
        try:
            study.optimize(objective, n_trials=1, catch=(trials.TrialFailed,))
        except KeyboardInterrupt:
            for number in begun:
                retry(study, study.trials[number])  # by whoever comes next
            raise
        done = sum(is_finished(trial) for trial in study.get_trials(deepcopy=False))
        say(progress_line(study, study.trials[begun[0]], done, space.trials))


def retry(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Have a trial that was not finished taken up again."""
    optuna.storages.RetryHeartbeatStaleTrialCallback()(study, trial)


def original(trial: optuna.trial.FrozenTrial) -> int:
    """The number of the trial that this one takes up again, or its own: its directory."""
    first = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else first


def is_finished(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether it needs no further work: a failure without a reason is a worker's death."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or "reason" in trial.user_attrs


def progress_line(
    study: optuna.Study, trial: optuna.trial.FrozenTrial, finished: int, total: int
) -> str:
    """What became of a trial, how many are finished, and the best so far."""
    score = trials.last_score(trial)
    line = f"{study.study_name}: {finished}/{total} trials; {trial.number}: "
    line += f"PESQ {score:.3f}" if score is not None else "no PESQ"
    if trial.state == TrialState.PRUNED:
        line += f", pruned at step {max(trial.intermediate_values)}"
    elif trial.state == TrialState.FAIL:
        line += f", failed: {trial.user_attrs['reason']}"
    with contextlib.suppress(ValueError):  # none is finished
        line += f"; best {study.best_value:.3f}, of {original(study.best_trial)}"
    return line


def finish(study: optuna.Study, space: Space, out: Path) -> None:
    """Write what was found, and say it. Raises InputError where no trial came to its end."""
    from reporting import study as report  # with matplotlib, which no worker needs
    from reporting.plain import as_text

    headings = names(space.free)
    finished = [trial for trial in study.get_trials() if is_finished(trial)]
    table = report.rows(finished, headings)
    write_atomically(out / "trials.csv", report.as_csv(table))
    try:
        best = study.best_trial
    except ValueError as error:
        raise InputError(f"{out}: no trial came to its end: see {out}/trials.csv") from error
    text = dump_yaml(space.as_experiment(best.params, out))
    write_atomically(out / "best.yaml", text)
    pruned = sum(trial.state == TrialState.PRUNED for trial in finished)
    chosen = [f"{name} {report.shown(best.params[key])}" for key, name in headings.items()]
    verdict = (
        f"Of {len(finished)} trials, {pruned} pruned, number {best.number} is best: PESQ"
        f" {best.value:.3f} on dev with {', '.join(chosen)}."
    )
    page = report.render_page(study, headings, verdict, text)
    write_atomically(out / "search.html", page)
    terminal.tell(*as_text(table[:11]), "", verdict)
    say(f"{out / 'best.yaml'} is an experiment for train.py; pictures: {out / 'search.html'}")


if __name__ == "__main__":
    main()
