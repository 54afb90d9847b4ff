"""How busy the event loop is: whether this machine, loaded as it is, bears another stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

_EVERY_S = 0.5
_SCHEDULER = Path("/proc/thread-self/schedstat")  # Linux: ns on a core, ns of waiting for one


class Busy:
    """share: of the last half second that this thread has run or has waited for a core, 0 to 1."""

    def __init__(self) -> None:
        self.share = 0.0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        watch = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        before, began = _wanted_s(), time.monotonic()
        while True:
            await asyncio.sleep(_EVERY_S)
            now, ended = _wanted_s(), time.monotonic()
            self.share = (now - before) / (ended - began)
            before, began = now, ended


def _wanted_s() -> float:
    """Seconds of a core that this thread has had or wanted (had, where that is not known)."""
    try:
        ran, waited, _ = _SCHEDULER.read_text().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran) + int(waited)) / 1e9
