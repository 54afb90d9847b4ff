"""What a training leaves behind: its log, its models and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from gan_denoise import checkpoint
from gan_denoise.provenance import origin
from gan_denoise.system.terminal import say
from training import lineage
from training.corpus import Corpus
from training.experiment import Experiment
from training.logbook import Logbook, said_finished
from training.models import Models
from training.resume import Standing, lend, snapshot
from training.schedule import Schedule
from training.validation import Validation


@dataclass(frozen=True)
class Setup:
    """A training: what stays the same from its first update to its last.

    path: the experiment's file. exp: the folder that the training writes. warm_starts: folder of
    the states that trainings share, or None.
    """

    accelerator: Accelerator
    experiment: Experiment
    schedule: Schedule
    corpus: Corpus
    path: Path
    exp: Path
    warm_starts: Path | None

    @property
    def leader(self) -> bool:
        """Whether this process writes and speaks."""
        return self.accelerator.is_main_process

    @property
    def checkpoint(self) -> Path:
        return self.exp / "checkpoint.pt"

    @property
    def model(self) -> Path:
        """The file that a finished training has."""
        return self.exp / "model/model.safetensors"


class Records:
    """The records of a run, which its main process keeps.

    stands: the state from which the run goes on. identity: all that the weights depend on.
    trained_by: digests of the code that has trained so far. warm_path: where other runs look for
    the state at the end of the warm start, or None.
    """

    def __init__(
        self,
        setup: Setup,
        models: Models,
        stands: Standing,
        identity: Mapping[str, Any],
        trained_by: tuple[str, ...],
        warm_path: Path | None,
    ):
        self._setup, self._models, self._identity = setup, models, identity
        self._trained_by, self._warm_path = trained_by, warm_path
        self._best = stands.best
        experiment, corpus = setup.experiment, setup.corpus
        splits = {"train": corpus.train, "dev": corpus.dev}
        about = dict(identity) | {
            "name": setup.path.stem,
            "origin": origin.program() | {"split": origin.who(splits), "training": trained_by},
            "generator": experiment.generator,
            "seed": experiment.seed,
            "processes": setup.accelerator.num_processes,
        }
        if experiment.licence is not None:
            about["licence"] = experiment.licence
        people = lineage.people(experiment, corpus)
        if stands.lender:
            say(
                f"{setup.exp.name}: starts at step {stands.update}, with the warm start of"
                f" {stands.lender} ({stands.path})"
            )
        self._logbook = Logbook(
            setup.exp,
            about,
            setup.accelerator,
            setup.schedule,
            first=stands.update,
            spent_s=stands.spent_s,
            history=stands.history,
            people=people,
        )
        self.leave = self._logbook.leave
        self._validation = Validation(
            corpus.dev,
            setup.exp / "validation",
            count=experiment.validate_utterances,
            examples=experiment.validate_examples,
            sample_rate=corpus.sample_rate,
            jobs=torch.get_num_threads(),
        )

    def keep(
        self, update: int, means: dict[str, float], rates: dict[str, float], *, last: bool
    ) -> bool:
        """Write what is due after an update; returns whether dev was scored.

        means: of the measures since the last entry of the log; empty where none is due. rates: the
        learning rates. last: whether no update follows.
        """
        experiment, schedule = self._setup.experiment, self._setup.schedule
        self._logbook.count()
        if means:
            self._logbook.log(update, means, **rates)
        step, speaks = schedule.step(update), schedule.phase(update) != "discriminator"
        validates = speaks and (step == schedule.steps or step % experiment.validate_every == 0)
        if validates:
            self._validate(update, step)
        if update == schedule.warm_start:
            self._best = -math.inf  # later scores must not depend on whose warm start this is
        if last or update % experiment.checkpoint_every == 0 or update in schedule.borders:
            self._save(update)
        return validates

    def _validate(self, update: int, step: int) -> None:
        generator = self._models.averaged
        scores = self._logbook.validate(update, self._validation, generator)
        score = scores.get(self._validation.decisive, -math.inf)
        if score > self._best:
            self._best = score
            self._logbook.save_model("model_best", generator, step)

    def _save(self, update: int) -> None:
        setup, warm_path = self._setup, self._warm_path
        state = snapshot(
            update,
            self._best,
            self._logbook.elapsed_s,
            self._trained_by,
            self._identity,
            self._models.states,
        )
        if warm_path and update == setup.schedule.warm_start and not warm_path.exists():
            lend(warm_path, state, setup.exp.name, self._logbook.text)
        checkpoint.save_state(setup.checkpoint, state)

    def interrupted(self, update: int) -> None:
        self._logbook.close("interrupted", update)

    def finished(self) -> None:
        schedule = self._setup.schedule
        self._logbook.save_model("model", self._models.averaged, schedule.steps)
        self._logbook.close("finished", schedule.updates)


def finished_already(setup: Setup, stands: Standing, now: str) -> None:
    """Say that a run is finished and needs no further update.

    A run that was killed between its last two records gets the last one. now: digest of the present
    code.
    """
    name, schedule = setup.exp.name, setup.schedule
    other = f"; by other code than is here now: to train again, remove {setup.exp}"
    changed = stands.code and stands.code != (now,)
    say(f"{name}: finished already, {schedule.steps} steps{other if changed else ''}")
    if not said_finished(setup.exp):
        first, spent_s = stands.update, stands.spent_s
        book = Logbook(setup.exp, {}, setup.accelerator, schedule, first=first, spent_s=spent_s)
        book.close("finished", first)
