"""Work on many files in worker processes that may fail, hang or crash one by one without taking the run along."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, TimeoutError, wait
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from gan_denoise.errors import InputError, os_error_line


@dataclass(frozen=True)
class Outcome:
    """What became of one item: its result, or the reason why there is none. os_error: the reason is the machine's (a full
    disk, a missing permission), so the next item may well fail too. died: the worker process is gone."""

    item: Any
    result: Any = None
    reason: str | None = None
    os_error: bool = False
    died: bool = False

    def value(self) -> Any:
        """The result, for those who cannot go on without. Raises InputError with the reason."""
        if self.reason:
            raise InputError(self.reason)
        return self.result


def each(
    function: Callable, items: Iterable, *, jobs: int, timeout_s: float | None = None, always_isolated: bool = False
) -> Iterator[Outcome]:
    """Call function(item) for every item; yields an Outcome per item, in order of completion.

    jobs: number of processes; 1 works in this one unless always_isolated. InputError, OSError, a crash of the worker and
    an item that takes longer than timeout_s become reasons; any other exception is a bug and is raised. function must be
    importable (not a lambda), its items and results picklable. Workers use one thread each for linear algebra.
    """
    if jobs == 1 and not always_isolated:
        for item in items:
            yield _outcome(item, lambda item=item: function(item))
        return
    with ProcessPool(max_workers=jobs, context=_forkserver()) as pool:
        try:
            running = {}
            for item in items:
                running[pool.schedule(function, args=[item], timeout=timeout_s)] = item
                if len(running) >= 4 * jobs:  # enough to keep every worker busy, few enough to stay small
                    yield from _finished(running)
            while running:
                yield from _finished(running)
        except BaseException:
            pool.stop()
            raise


def _finished(running: dict) -> Iterator[Outcome]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield _outcome(running.pop(future), future.result)


def _outcome(item, call: Callable) -> Outcome:
    try:
        return Outcome(item, result=call())
    except InputError as error:
        return Outcome(item, reason=str(error))
    except TimeoutError:
        return Outcome(item, reason="took too long and was stopped")
    except ProcessExpired as error:
        return Outcome(item, reason=f"the worker process died (exit code {error.exitcode})", died=True)
    except OSError as error:
        return Outcome(item, reason=os_error_line(error), os_error=True)


def _forkserver() -> multiprocessing.context.BaseContext:
    """Workers come from a clean process that has imported the program once: quicker than starting anew, safer than fork."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in one_thread}
    os.environ.update(one_thread)  # read by those libraries when they are imported, hence before the process starts
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None  # inherited: Ctrl-C is for the parent
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return multiprocessing.get_context("forkserver")
