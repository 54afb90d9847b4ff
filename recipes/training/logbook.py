"""The records of a training run: status.json, log.jsonl, TensorBoard, models and printed lines."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from gan_denoise import checkpoint
from gan_denoise.contract import Generator
from gan_denoise.provenance import origin, overlap
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import clock, say
from training import trackers
from training.board import Board
from training.schedule import Schedule
from training.validation import Validation

# The part of an entry that a printed line shows: key -> (name in the line, format)
SHOWN = {
    "loss": ("loss", ".5f"),
    "gradient_norm": ("gradient", ".4f"),
    "discriminator_loss": ("D loss", ".4f"),
    "score_real": ("real", ".2f"),
    "score_fake": ("fake", ".2f"),
    "lr": ("lr", ".1e"),
    "steps_per_s": ("steps/s", ".2f"),
}
DISCRIMINATOR_HAS_WON = 0.02  # mean loss over a log interval; LS-GAN at chance: 0.5, hinge: 2
GENERATOR_IS_DEAD = 0.02  # RMS of the output relative to the clean speech


class Meter:
    """Sums of the values that updates measure, until their means are asked for.

    The means are over the updates and over all processes.
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._sums: dict[str, Tensor | float] = {}
        self._count, self._waited_s, self._since = 0, 0.0, time.monotonic()

    def measure(self, waited_s: float, **values: Tensor) -> None:
        """Add the values of one update, which stay on their device until `means` is called."""
        self._count += 1
        self._waited_s += waited_s
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()

    def means(self) -> dict[str, float]:
        """The means since the last call, with `steps_per_s` and `data_wait_share`.

        All processes must call it at the same update.
        """
        seconds = time.monotonic() - self._since
        total = torch.stack(
            [torch.as_tensor(total, dtype=torch.float64) for total in self._sums.values()]
        )
        total = self._accelerator.reduce(total / self._count, reduction="mean")
        means = dict(zip(self._sums, total.tolist(), strict=True))
        means |= {"data_wait_share": self._waited_s / seconds, "steps_per_s": self._count / seconds}
        self._sums, self._count, self._waited_s = {}, 0, 0.0
        self.go_on()
        return means

    def go_on(self) -> None:
        """Exclude the time since the last call from the training's speed."""
        self._since = time.monotonic()


class Logbook:
    """The records of one run in `exp`, continued from update `first`.

    Later entries of an interrupted run are cut off. config goes into every saved model, and people
    (gan_denoise/provenance/overlap.py) beside it. spent_s: training time before `first`. history:
    the log of the warm start that the run has taken from another run.
    """

    def __init__(
        self,
        exp: Path,
        config: dict,
        accelerator: Accelerator,
        schedule: Schedule,
        *,
        first: int,
        spent_s: float,
        history: str | None = None,
        people: str = "",
    ):
        self._exp, self._config, self._schedule = exp, config, schedule
        self._people = people
        self._first, self._spent_s = first, spent_s
        self._started = time.monotonic()
        self._log_path = exp / "log.jsonl"
        text = self.text if history is None else history
        kept = [entry for entry in text.splitlines() if _update(entry) <= first]
        write_atomically(self._log_path, "".join(entry + "\n" for entry in kept))
        self._accelerator = accelerator
        self._trackers = trackers.Trackers(accelerator, exp, config)
        self._board = Board(exp / "tensorboard", purge_step=first + 1)
        for entry in map(json.loads, kept if history is not None else []):
            self._plot(entry.pop("update"), entry)
        self._bar = tqdm(
            total=schedule.updates,
            initial=first,
            desc=exp.name,
            unit=" steps",
            disable=not sys.stderr.isatty(),
        )
        self._shown = self._closed = False
        self._last = first
        self.status("running", first)

    @property
    def text(self) -> str:
        """All entries, one JSON object a line."""
        return (
            self._log_path.read_text(encoding="utf-8", errors="replace")
            if self._log_path.exists()
            else ""
        )

    @property
    def elapsed_s(self) -> float:
        """Training time of the whole run, earlier parts included."""
        return self._spent_s + time.monotonic() - self._started

    def count(self) -> None:
        """Count one update."""
        self._bar.update()
        self._last += 1

    def log(self, update: int, means: dict[str, float], **values: float) -> None:
        """Write the means of a Meter since the last call (within one phase), and further values."""
        now = time.monotonic()
        entry = means | values
        alarms = (
            find_alarms(entry) if self._schedule.phase(max(update, 1)) != "discriminator" else []
        )
        self._write(update, entry | ({"alarms": alarms} if alarms else {}))
        left_s = (
            (self._schedule.updates - update) * (now - self._started) / max(1, update - self._first)
        )
        shown = "  ".join(
            f"{name} {entry[key]:{form}}" for key, (name, form) in SHOWN.items() if key in entry
        )
        shown += f"  waiting for data {100 * entry['data_wait_share']:.0f} %"
        if self._bar.disable:
            say(f"{self._place(update)}  {shown}  {clock(left_s)} left")
        else:
            self._bar.set_postfix_str(shown)
        for alarm in alarms:
            say(f"{self._exp.name}: ALARM at update {update}: {alarm}")

    def validate(
        self, update: int, validation: Validation, generator: Generator
    ) -> dict[str, float]:
        """Write dev scores, and examples to hear and see; returns the scores."""
        scores = validation(generator, self._accelerator.device)
        self._write(update, {f"dev/{name}": value for name, value in scores.items()})
        validation.show(self._board, update, originals=not self._shown)
        self._shown = True
        say(f"{self._place(update)}  dev  " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items()))
        return scores

    def _place(self, update: int) -> str:
        """The run's name and place: l1: step 150/4000.

        While the discriminators learn alone: gan: step 2000/4000 (discriminator 50/200).
        """
        schedule, phase = self._schedule, self._schedule.phase(max(update, 1))
        alone = f"{phase} {schedule.discriminator_only(update)}/{schedule.alone}"
        place = {"reconstruction": "", "discriminator": f" ({alone})", "gan": " (gan)"}[phase]
        return f"{self._exp.name}: step {schedule.step(update)}/{schedule.steps}{place}"

    def _write(self, update: int, entry: dict) -> None:
        place = {"step": self._schedule.step(update), "phase": self._schedule.phase(update)}
        self._plot(update, entry)
        with open(self._log_path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"update": update, **place, **entry}) + "\n")

    def _plot(self, update: int, entry: dict) -> None:
        numbers = {name: value for name, value in entry.items() if isinstance(value, float)}
        for name, value in numbers.items():
            self._board.scalar(name, value, update)
        self._trackers.log(numbers, update)

    def save_model(self, name: str, generator: nn.Module, step: int) -> None:
        """Write a model directory below the run's."""
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        config = {
            **self._config,
            "step": step,
            "parameters": parameters,
            "trained_s": round(self.elapsed_s),
            "machine": origin.machine(),
        }
        checkpoint.save_model(self._exp / name, generator, config)
        overlap.write(self._exp / name, self._people)

    def status(self, state: str, update: int) -> None:
        """Write status.json: running, interrupted, failed or finished, and how far."""
        place = {
            "step": self._schedule.step(update),
            "steps": self._schedule.steps,
            "update": update,
        }
        record = {"state": state, **place, "trained_s": round(self.elapsed_s)}
        write_atomically(self._exp / "status.json", json.dumps(record) + "\n")

    def leave(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the status `failed` if an exception ends the run; for an ExitStack."""
        if kind is not None and not self._closed:
            with contextlib.suppress(OSError):
                self.status("failed", self._last)

    def close(self, state: str, update: int) -> None:
        self._bar.close()
        self._board.close()
        if state == "finished":
            trackers.keep(self._exp, self._exp / "model")
        self.status(state, update)
        self._closed = True
        say(f"{self._place(update)}: {state} after {clock(self.elapsed_s)}")


def said_finished(exp: Path) -> bool:
    """Whether status.json says that the run is finished."""
    try:
        return json.loads((exp / "status.json").read_text(encoding="utf-8"))["state"] == "finished"
    except (OSError, ValueError, LookupError, TypeError):
        return False


def find_alarms(entry: dict[str, float]) -> list[str]:
    """The faults that a mean over some updates shows, in words.

    They are discriminators that have won, a generator that is dead, and a gradient of 0.
    """
    alarms = []
    if entry.get("discriminator_loss", math.inf) < DISCRIMINATOR_HAS_WON:
        alarms.append(
            "the discriminators tell real from fake without fail (loss"
            f" {entry['discriminator_loss']:.3g}): their gradient teaches nothing any more: lower"
            " adversary.optimizer.lr, or make them smaller"
        )
    if entry.get("level", math.inf) < GENERATOR_IS_DEAD:
        alarms.append(
            f"the generator is nearly silent (level {entry['level']:.3g} of the clean speech's):"
            " lower optimizer.lr, or give the reconstruction losses more weight"
        )
    if entry.get("gradient_norm", math.inf) == 0.0:
        alarms.append("no gradient reaches the generator: start again, with a lower optimizer.lr")
    return alarms


def _update(entry: str) -> float:
    try:
        return json.loads(entry)["update"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # half a line, from a run that was killed while writing
