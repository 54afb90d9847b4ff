"""Preemption: a signal to any process of a run makes all of them save and stop together.

They stop after the same update.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from types import FrameType

import torch
from accelerate import Accelerator

INTERRUPTED = 75  # EX_TEMPFAIL: come again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# The signal of a data worker that was signalled itself; it never kills, however often it comes
FROM_A_WORKER = signal.SIGUSR1
_AT_ONCE_S = 2.0  # a terminal, a batch system and parent processes may pass on the same signal


class StopSignal:
    """SIGTERM, SIGINT or SIGHUP to any process is a request to all of them.

    A second signal, some seconds later, kills as usual. SIGHUP stays ignored where it was (nohup).
    """

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator
        self._since: float | None = None
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._receive)
        signal.signal(FROM_A_WORKER, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif number != FROM_A_WORKER and now - self._since > _AT_ONCE_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def received(self) -> bool:
        """Whether this process has been asked to stop."""
        return self._since is not None

    def requested(self) -> bool:
        """Whether any process has been asked to stop.

        All processes must call it at the same update.
        """
        if self._accelerator.num_processes == 1:
            return self.received
        flag = torch.tensor(float(self.received), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)


class Ending:
    """A flag, set by the parent, that tells data workers to end."""

    def __init__(self) -> None:
        self._value = multiprocessing.Value("b", 0, lock=False)

    def set(self) -> None:
        self._value.value = 1

    def __bool__(self) -> bool:
        return bool(self._value.value)


def pass_signals_to_the_parent(worker: int, *, ending: Ending) -> None:
    """In a data worker, pass signals on to the parent, so that the run saves its state first.

    Once `ending` is set, a signal (such as multiprocessing's own) ends the worker.
    """
    leader = os.getppid()

    def pass_on(*_: object) -> None:
        if ending:
            os._exit(0)
        if os.getppid() == leader:
            os.kill(leader, FROM_A_WORKER)

    for number in SIGNALS:
        signal.signal(number, pass_on)
