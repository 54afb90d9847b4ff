"""Preemption: SIGTERM or SIGINT makes a run save and leave, all processes after the same update."""

from __future__ import annotations

import signal

import torch
from accelerate import Accelerator

INTERRUPTED = 75  # EX_TEMPFAIL: come again


class StopSignal:
    """A first SIGTERM or SIGINT to any process is a request to all of them. A second one kills as usual."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator, self._received = accelerator, False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame) -> None:
        self._received = True
        signal.signal(number, signal.SIG_DFL)

    def requested(self) -> bool:
        if self._accelerator.num_processes == 1:
            return self._received
        flag = torch.tensor(float(self._received), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum") > 0)


def leave_signals_to_the_parent(worker: int) -> None:
    """In a data worker: a signal to the whole process group must not take the data away before the state is saved."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
