"""Preemption: a signal to any process of a run's tree makes it save and leave, all after the same
update.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import torch
from accelerate import Accelerator

INTERRUPTED = 75  # EX_TEMPFAIL: come again
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A request that may come beside others, of a data worker that was signalled
FROM_A_WORKER = signal.SIGUSR1
_AT_ONCE_S = 2.0  # a terminal, a batch system and our own parents may all pass the same signal on


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

    def _receive(self, number: int, frame) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif number != FROM_A_WORKER and now - self._since > _AT_ONCE_S:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @property
    def received(self) -> bool:
        """Whether this process has been asked."""
        return self._since is not None

    def requested(self) -> bool:
        """Whether any process has been asked; all of them call it at the same update."""
        if self._accelerator.num_processes == 1:
            return self.received
        flag = torch.tensor(float(self.received), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)


class Ending:
    """Whether data workers are to end: set by their parent, seen by them."""

    def __init__(self):
        self._value = multiprocessing.Value("b", 0, lock=False)

    def set(self) -> None:
        self._value.value = 1

    def __bool__(self) -> bool:
        return bool(self._value.value)


def pass_signals_to_the_parent(worker: int, *, ending: Ending) -> None:
    """In a data worker: a signal to it is one to the run, and may not take the data away before the
    state is saved. Once it is to end, a signal (multiprocessing's own, for one) ends it.
    """
    leader = os.getppid()

    def pass_on(*_: object) -> None:
        if ending:
            os._exit(0)
        if os.getppid() == leader:
            os.kill(leader, FROM_A_WORKER)

    for number in SIGNALS:
        signal.signal(number, pass_on)
