"""One trial of a search: train.py in a process and a directory of its own, watched by its log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from gan_denoise.errors import InputError
from gan_denoise.provenance import code
from gan_denoise.system.files import digest

TRAIN = Path(__file__).resolve().parents[1] / "train.py"
PROCEDURES = Path(__file__).resolve().parents[2] / "egs/vctk/conf"
stop = threading.Event()  # somebody wants this process to end
INTERRUPTED = 75  # as train.py has it
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 60.0  # to save, after SIGTERM


class TrialFailed(Exception):
    """The training ended with an error, its last line."""


def listen() -> None:
    """Let signals ask for the end.

    As exceptions they could arrive in the middle of the study's database, where some are swallowed.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda *_: stop.set())


def run(trial: optuna.Trial, command: list[str], exp: Path) -> float:
    """Train, report dev's PESQ at every validation, and stop where the pruner says so.

    Returns the last PESQ. What is killed, or interrupted, is resumed by the same command. Raises
    TrialPruned, TrialFailed, and KeyboardInterrupt where `stop` is set.
    """
    exp.mkdir(parents=True, exist_ok=True)
    heard, scores = exp.parent / f"{exp.name}.log", {}
    with heard.open("ab") as log:
        began = log.tell()
        process = subprocess.Popen(
            [sys.executable, str(TRAIN), *command, "--exp", str(exp)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C comes to us alone
        )
        try:
            while True:
                status = process.poll()  # before the last look
                for step, score in validations(exp / "log.jsonl"):
                    if step not in scores:
                        scores[step] = score
                        trial.report(score, step)
                        if trial.should_prune() and status is None:
                            raise optuna.TrialPruned(f"step {step}")
                if status is not None:
                    break
                if stop.wait(_LOOK_EVERY_S):
                    raise KeyboardInterrupt
        finally:
            _end(process)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status or not scores:
        said = heard.read_bytes()[began:].decode(errors="replace").splitlines()
        errors = [line for line in said if line.startswith("error: ")] or said[-1:]
        raise TrialFailed(errors[-1] if errors else f"train.py ended with status {status}")
    return scores[max(scores)]


def validations(path: Path) -> Iterator[tuple[int, float]]:
    """(step, PESQ on dev) of a run's log.jsonl; a line that is half written is left out."""
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                for key, value in entry.items():
                    if key.startswith("dev/pesq") and value is not None:
                        yield entry["step"], value


def last_score(trial: FrozenTrial) -> float | None:
    """The last PESQ that a trial reported, pruned or not."""
    scores = trial.intermediate_values
    return scores[max(scores)] if scores else trial.value


def _end(process: subprocess.Popen) -> None:
    """Have a training that still runs save and leave; what does not is killed, with its workers."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def identity(command: list[str], data: Path) -> dict[str, str]:
    """What all trials have in common, as digests.

    The keys are experiment (with its base and all settings), data (by content), code (as far as it
    decides), and more. Raises InputError where train.py would refuse any of it.
    """
    from training.corpus import Corpus
    from training.experiment import read_experiment
    from training.resume import identify

    path, *settings = command
    try:
        experiment = read_experiment(Path(path), settings, PROCEDURES)
        corpus = Corpus.read(data, experiment, PROCEDURES)
    except InputError as error:
        raise InputError(f"no trial could run: {error}") from error
    facts = identify(experiment, corpus) | {"experiment": experiment.written}
    facts["code"] = code.of_training(experiment.decides)
    return {key: digest(value) for key, value in facts.items()}
