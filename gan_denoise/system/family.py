"""A program that was started by another one does not outlive it.

run.sh, search.py and the launchers of accelerate and torch wait for what they have started. When
one of them is killed, nobody would wait any more, and a repeated command would meet the first one
still at work.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LAUNCHERS = {"run.sh", "accelerate", "accelerate-launch", "torchrun"}
_LAUNCHERS |= {"accelerate.commands.launch", "torch.distributed.run", "search.py"}


def follow_the_launcher() -> None:
    """Have SIGTERM sent to this process when its parent dies, if that is a launcher (Linux).

    A shell that somebody leaves is no launcher.
    """
    parent = os.getppid()
    if sys.platform != "linux" or not is_launcher(parent):
        return
    follow_the_parent(parent)


def follow_the_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent, which is `parent`, dies (Linux)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died meanwhile
        os.kill(os.getpid(), signal.SIGTERM)


def is_launcher(process: int) -> bool:
    """Whether a process is run.sh, accelerate's or torch's launcher."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name in _LAUNCHERS for word in words[:3])
