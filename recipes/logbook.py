"""What a training run leaves behind: status.json, log.jsonl, TensorBoard, models, and lines for whoever watches."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from validate import Validation

from gan_denoise import __version__, checkpoint
from gan_denoise.files import write_atomically
from gan_denoise.terminal import clock, say


class Logbook:
    """The records of one run in `exp`, continued from step `first`: later entries of an interrupted run are cut off.

    config goes into every saved model. spent_s: training time before `first`.
    """

    def __init__(self, exp: Path, config: dict, *, first: int, steps: int, spent_s: float):
        self._exp, self._config, self._first, self._steps, self._spent_s = exp, config, first, steps, spent_s
        self._started = self._since = time.monotonic()
        self._log_path = exp / "log.jsonl"
        entries = self._log_path.read_text().splitlines() if self._log_path.exists() else []
        kept = [entry for entry in entries if _step(entry) <= first]
        write_atomically(self._log_path, "".join(entry + "\n" for entry in kept))
        self._writer = SummaryWriter(exp / "tensorboard", purge_step=first + 1 if first else None)
        self._bar = tqdm(total=steps, initial=first, desc=exp.name, unit=" steps", disable=not sys.stderr.isatty())
        self._sums: dict[str, Tensor] = {}
        self._count, self._waited_s, self._shown = 0, 0.0, False
        self.status("running", first)

    @property
    def elapsed_s(self) -> float:
        """Training time of the whole run, earlier parts included."""
        return self._spent_s + time.monotonic() - self._started

    def measure(self, waited_s: float, **values: Tensor) -> None:
        """Take in one step. Values stay on their device until they are logged."""
        self._count += 1
        self._waited_s += waited_s
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._bar.update()

    def log(self, step: int, **values: float) -> None:
        """Write means of what was measured since the last call, and values as they are."""
        now = time.monotonic()
        seconds = now - self._since
        entry = {name: float(total) / self._count for name, total in self._sums.items()}
        entry |= values | {"data_wait_share": self._waited_s / seconds, "steps_per_s": self._count / seconds}
        self._sums, self._count, self._waited_s, self._since = {}, 0, 0.0, now
        self._write(step, entry)
        left_s = (self._steps - step) * (now - self._started) / max(1, step - self._first)
        shown = (
            f"loss {entry['loss']:.5f}  gradient {entry['gradient_norm']:.4f}  lr {entry['lr']:.1e}  "
            f"{entry['steps_per_s']:.2f} steps/s  waiting for data {100 * entry['data_wait_share']:.0f} %"
        )
        if self._bar.disable:
            say(f"{self._exp.name}: step {step}/{self._steps}  {shown}  {clock(left_s)} left")
        else:
            self._bar.set_postfix_str(shown)

    def log_validation(self, step: int, scores: dict[str, float], validation: Validation) -> None:
        """Write dev scores, and the examples that can be heard and seen."""
        self._write(step, {f"dev/{name}": value for name, value in scores.items()})
        validation.show(self._writer, step, originals=not self._shown)
        self._shown = True
        say(
            f"{self._exp.name}: step {step}/{self._steps}  dev  " + "  ".join(f"{k} {v:.3f}" for k, v in scores.items())
        )
        self._since = time.monotonic()  # validation does not count against the training's speed

    def _write(self, step: int, entry: dict[str, float]) -> None:
        for name, value in entry.items():
            self._writer.add_scalar(name, value, step)
        with open(self._log_path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **entry}) + "\n")

    def save_model(self, name: str, generator: nn.Module, step: int) -> None:
        """Write a model directory below the run's."""
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        config = {
            **self._config,
            "step": step,
            "parameters": parameters,
            "trained_s": round(self.elapsed_s),
            "machine": machine(),
        }
        checkpoint.save_model(self._exp / name, generator, config)

    def status(self, state: str, step: int) -> None:
        """Write status.json: running, interrupted or finished, and how far."""
        record = {"state": state, "step": step, "steps": self._steps, "trained_s": round(self.elapsed_s)}
        write_atomically(self._exp / "status.json", json.dumps(record) + "\n")

    def close(self, state: str, step: int) -> None:
        self._bar.close()
        self._writer.close()
        self.status(state, step)
        say(f"{self._exp.name}: {state} at step {step}/{self._steps} after {clock(self.elapsed_s)}")


def _step(entry: str) -> float:
    try:
        return json.loads(entry)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # half a line, of a run that was killed while it wrote


def machine() -> str:
    """One line about the hardware and the versions that a figure rests on."""
    device = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        device = next((line.split(":")[1].strip() for line in cpuinfo.open() if line.startswith("model name")), device)
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}, gan_denoise {__version__}"
