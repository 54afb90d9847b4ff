"""The TensorBoard file of a run; where it cannot be written, the run goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from gan_denoise.system.terminal import say

# tensorboard's thread, which passes its errors on, and would print their traceback as well
_WRITER = "_AsyncWriterThread"


class Board:
    """A SummaryWriter that reports its first error in one line and then stops."""

    def __init__(self, folder: Path, *, purge_step: int):
        self._folder = folder
        self._writer: SummaryWriter | None = None
        threading.excepthook = _quiet(threading.excepthook)
        try:
            self._writer = SummaryWriter(folder, purge_step=purge_step)
        except Exception as error:
            self._give_up(error)

    def scalar(self, name: str, value: float, step: int) -> None:
        """Write a curve's next point."""
        self._try(lambda writer: writer.add_scalar(name, value, step))

    def audio(self, name: str, wave: np.ndarray, step: int, sample_rate: int) -> None:
        """Write an audio example, (1, T) float samples."""
        self._try(lambda writer: writer.add_audio(name, wave, step, sample_rate=sample_rate))

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Write a picture, (1, F, N) in [0, 1]."""
        self._try(lambda writer: writer.add_image(name, picture, step))

    def close(self) -> None:
        """Write what is still in memory."""
        self._try(lambda writer: writer.close())

    def _try(self, act: Callable[[SummaryWriter], None]) -> None:
        if self._writer is None:
            return
        try:
            act(self._writer)
        except Exception as error:  # of a full disk, or tensorboard's own
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        say(f"{self._folder}: cannot be written ({error}): the run goes on without it")
        self._writer = None


def _quiet(hook: Callable) -> Callable:
    def called(arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__name__ != _WRITER:
            hook(arguments)

    return called
