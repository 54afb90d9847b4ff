"""Where a run stands: its last checkpoint, or the warm start of a run that agrees with it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gan_denoise import checkpoint
from gan_denoise.errors import InputError
from gan_denoise.provenance import code
from gan_denoise.provenance.inputs import FORMAT, data_digest, file_digest
from gan_denoise.system.files import digest
from gan_denoise.system.owner import owning
from training.corpus import Corpus
from training.experiment import PHASES, Experiment, check_same_run


@dataclass(frozen=True)
class Standing:
    """The state that a run starts from.

    update: the last update that is done. best: the dev score to beat. spent_s: training time so
    far. code: digests of the code that has trained so far, the latest last. lender, history: the
    run that has lent its warm start, and its log.
    """

    update: int = 0
    best: float = -math.inf
    spent_s: float = 0.0
    code: tuple[str, ...] = ()
    lender: str | None = None
    history: str | None = None
    path: Path | None = None
    states: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def restore(self, modules: Mapping[str, Any]) -> None:
        """Load the states of all modules; a warm start has none of the opponents'.

        Raises InputError.
        """
        try:
            for name, state in self.states.items():
                modules[name].load_state_dict(state)
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.path}: does not fit this version of the recipe ({reason}): remove it"
            ) from error


def identify(experiment: Experiment, corpus: Corpus) -> dict[str, Any]:
    """All that the weights depend on: a run goes on only from a state of the same identity."""
    splits = {"train": corpus.train, "dev": corpus.dev}
    identity = {
        "experiment": experiment.decides,
        "noise": corpus.noise["fingerprint"],
        "data": {name: data_digest(split, corpus.folder / name) for name, split in splits.items()},
        "sample_rate": corpus.sample_rate,
    }
    if corpus.fresh_noise:
        identity["fresh_noise"] = corpus.fresh_noise.fingerprint(corpus.sample_rate)
    if corpus.scenes:
        identity["scenes"] = corpus.scenes.fingerprint()
    models = {"init": experiment.start, "teacher": experiment.distil and experiment.distil.teacher}
    for name, folder in models.items():
        if folder:
            identity[name] = file_digest(Path(folder) / "model.safetensors")
    return identity


def warm_start_key(identity: Mapping, accelerator: Accelerator) -> str:
    """A digest of all that the weights depend on until the adversary enters, our own code included.

    identity: as returned by `identify`.
    """
    experiment = {key: value for key, value in identity["experiment"].items() if key not in PHASES}
    layout = [
        accelerator.num_processes,
        accelerator.device.type,
        torch.get_num_threads(),
        torch.__version__,
    ]
    written = code.of_training(experiment, warm_start=True)
    return digest([{**identity, "experiment": experiment}, layout, written])


def standing(path: Path, warm_path: Path | None, identity: Mapping[str, Any]) -> Standing:
    """The state at `path`, a run's own checkpoint, or else at `warm_path`, or an empty one.

    identity: all that the weights depend on. Raises InputError for a checkpoint of another
    identity.
    """
    if path.exists():
        state = checkpoint.load_state(path)
        if state.get("format") != FORMAT:
            raise InputError(
                f"{path}: was not written by this version of the recipe: remove it, or choose"
                " another --exp"
            )
        check_same_run(state["identity"], identity, path.parent)
        return Standing(
            state["update"],
            state["best"],
            state["spent_s"],
            tuple(state.get("code", ())),
            path=path,
            states=state["modules"],
        )
    if warm_path and warm_path.exists():
        state = checkpoint.load_state(warm_path)
        return Standing(
            state["update"],
            spent_s=state["spent_s"],
            code=tuple(state.get("code", ())),
            lender=state["name"],
            history=state["log"],
            path=warm_path,
            states=state["modules"],
        )
    return Standing()


def is_finished(exp: Path, identity: Mapping[str, Any], steps: int) -> bool:
    """Whether EXP/model, without a checkpoint beside it, is the result of this training.

    Raises InputError where it is the result of another training, since that must not be lost.
    """
    path = exp / "model/config.json"
    if not path.is_file():
        return False
    config = json.loads(path.read_text(encoding="utf-8"))
    check_same_run(config, json.loads(json.dumps(identity)), exp)
    if config["step"] != steps:
        raise InputError(
            f"{exp}: holds a model of {config['step']} steps and no checkpoint to go on from:"
            " choose another --exp, or remove it"
        )
    return True


def check_agreement(first: int, accelerator: Accelerator, exp: Path) -> None:
    """Check that all processes found the same last update; all of them must call this.

    Raises InputError in all of them where they differ.
    """
    updates = accelerator.gather(torch.tensor([first], device=accelerator.device))
    if (updates != first).any():
        raise InputError(
            f"{exp}: the processes found different states: all machines need the same --exp and"
            " --warm-starts"
        )


def snapshot(
    update: int,
    best: float,
    spent_s: float,
    code: tuple[str, ...],
    identity: Mapping[str, Any],
    modules: Mapping,
) -> dict[str, Any]:
    """All that a run needs to go on after `update`, for checkpoint.save_state."""
    return {
        "format": FORMAT,
        "update": update,
        "best": best,
        "spent_s": spent_s,
        "code": code,
        "identity": identity,
        "modules": {name: module.state_dict() for name, module in modules.items()},
    }


def lend(warm_path: Path, state: Mapping[str, Any], name: str, log: str) -> None:
    """Save a run's state at the end of its warm start for other runs, without the opponents."""
    shared = {
        key: part for key, part in state["modules"].items() if key not in ("adversary", "critic")
    }
    with owning(warm_path.parent, busy="wait"):
        checkpoint.save_state(warm_path, {**state, "modules": shared, "name": name, "log": log})


def sweep(warm_starts: Path) -> None:
    """Remove the half-written files of killed runs."""
    with owning(warm_starts, busy="wait"):
        pass
