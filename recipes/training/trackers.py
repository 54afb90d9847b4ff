"""accelerate's trackers: what they are told besides the curves, and how a resumed run goes on where
it stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically
from gan_denoise.terminal import say

if TYPE_CHECKING:
    from accelerate import Accelerator

PROJECT = "gan_denoise"
_MLFLOW_RUN = "mlflow_run"  # beside the run's log: its id


def start(accelerator: Accelerator, exp: Path, config: Mapping[str, Any]) -> None:
    """Begin, or go on with, a run called as `exp` is. config: its parameters, told once."""
    known = _run_id(exp)
    settings = {"mlflow": {"run_name": exp.name, "run_id": known}, "wandb": {"name": exp.name}}
    parameters = None if known else dict(_flat(config))
    try:
        accelerator.init_trackers(PROJECT, config=parameters, init_kwargs=settings)
    except Exception as error:  # of mlflow, which is not imported where nobody asked for it
        if known and type(error).__name__ == "MlflowException":
            raise InputError(
                f"{exp / _MLFLOW_RUN}: mlflow does not know this run: set MLFLOW_TRACKING_URI as"
                " before, or remove the file for a new run"
            ) from error
        raise
    own = [tracker for tracker in accelerator.trackers if tracker.name == "mlflow"]
    if own and not known:
        write_atomically(exp / _MLFLOW_RUN, own[0].tracker.info.run_id + "\n")


def keep(exp: Path, path: Path) -> None:
    """Have mlflow keep a file or a folder as an artefact of a run that it knows; nothing where no
    mlflow was asked. Where it cannot, a line says so: the file itself is there.
    """
    if not (run_id := _run_id(exp)):
        return
    try:
        from mlflow import MlflowClient

        client = MlflowClient()
        if path.is_dir():
            client.log_artifacts(run_id, str(path), path.name)
        else:
            client.log_artifact(run_id, str(path))
    except Exception as error:  # of mlflow, of a store, of a network
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"note: {path}: mlflow does not keep it: {reason}")


def _run_id(exp: Path) -> str | None:
    path = exp / _MLFLOW_RUN
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
