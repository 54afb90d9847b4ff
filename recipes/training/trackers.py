"""accelerate's trackers: their parameters, and how a resumed run continues its curves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise.errors import InputError
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import say

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "gan_denoise"
_MLFLOW_RUN = "mlflow_run"  # name of the file beside the run's log that holds mlflow's id
_PAUSE_S = 300.0  # between two attempts at a tracker that does not answer


class Trackers:
    """The trackers of a run named as `exp`, which begins or goes on.

    config: the run's parameters, which are sent once. An error of a tracker costs a printed line,
    and does not stop the training: log.jsonl has all values. Raises InputError where mlflow does
    not know the id of a run that it has given.
    """

    def __init__(self, accelerator: Accelerator, exp: Path, config: Mapping[str, Any]):
        self._accelerator, self._exp = accelerator, exp
        self._silent_until: dict[str, float] = {}
        run_id = _run_id(exp)
        settings = {"mlflow": {"run_name": exp.name, "run_id": run_id}}
        settings["wandb"] = {"name": exp.name}
        parameters = None if run_id else dict(_flat(config))
        _be_impatient()
        try:
            accelerator.init_trackers(PROJECT, config=parameters, init_kwargs=settings)
            mlflow_trackers = [
                tracker for tracker in accelerator.trackers if tracker.name == "mlflow"
            ]
            if mlflow_trackers and not run_id:
                write_atomically(exp / _MLFLOW_RUN, mlflow_trackers[0].tracker.info.run_id + "\n")
        except Exception as error:  # trackers are not imported here, nor are their exceptions
            if run_id and getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
                raise InputError(
                    f"{exp / _MLFLOW_RUN}: mlflow does not know this run: set MLFLOW_TRACKING_URI"
                    " as before, or remove the file for a new run"
                ) from error
            accelerator.trackers = []
            say(f"note: {exp.name}: goes on without its trackers: {_reason(error)}")

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send points of curves. A tracker that fails is tried again after a pause."""
        for tracker in self._accelerator.trackers:
            name, now = tracker.name, time.monotonic()
            if now < self._silent_until.get(name, 0.0):
                continue
            try:
                tracker.log(values, step=step)
            except Exception as error:  # of a tracker, of a network
                if name not in self._silent_until:
                    say(f"note: {self._exp.name}: goes on without {name}: {_reason(error)}")
                self._silent_until[name] = time.monotonic() + _PAUSE_S
            else:
                if self._silent_until.pop(name, None):
                    say(f"note: {self._exp.name}: {name} answers again")


def finish(accelerator: Accelerator) -> None:
    """End a training's trackers and its process group."""
    for tracker in getattr(accelerator, "trackers", []):
        try:
            tracker.finish()
        except Exception as error:  # of a tracker, of a network
            say(f"note: {tracker.name} was not told that the run ended: {_reason(error)}")
    accelerator.trackers = []
    accelerator.end_training()


def _be_impatient() -> None:
    """Shorten mlflow's attempts to reach its server, which would last for minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def keep(exp: Path, path: Path) -> None:
    """Have mlflow keep a file or a folder as an artefact of a run.

    Nothing happens where the run has no mlflow id. An error costs one printed line, since the file
    itself is there.
    """
    if not (run_id := _run_id(exp)):
        return
    _be_impatient()
    try:
        from mlflow import MlflowClient

        client = MlflowClient()
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    except Exception as error:  # of mlflow, of a store, of a network
        say(f"note: {path}: mlflow could not store it: {_reason(error)}")


def _run_id(exp: Path) -> str | None:
    path = exp / _MLFLOW_RUN
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
