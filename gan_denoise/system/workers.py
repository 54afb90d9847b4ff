"""Work on many files in worker processes.

A worker may fail, hang or crash on one file; the run goes on without it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.util
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from gan_denoise.errors import InputError, input_error

# Bytes; what follows it takes about 40
_LONGEST_TEMPORARY, _SYSTEMS_OWN = 60, ("/dev/shm", "/tmp", "/var/tmp")

_TRIES = 3  # of an item
# Are tried, one after the other, when somebody ends all workers or the server that makes them
_POOLS = 5
# Exit codes of a worker that somebody has ended: a batch system, a user, the kernel for want of
# memory
_KILLED = {
    sign * number + base
    for number in (signal.SIGTERM, signal.SIGKILL)
    for sign, base in ((-1, 0), (1, 128))
}
_KILLED |= {255}  # what multiprocessing says when the server is gone, which would know
_KILLED |= {int(signal.SIGTERM)}  # pebble's own handler

_PRELOADED: list[str] = []
_hiding, _PLACES = threading.Lock(), ("__file__", "__spec__")


@dataclass(frozen=True)
class Outcome:
    """What became of one item: its result, or the error that says why there is none.

    os_error: it is the machine's (a full disk, a missing permission), so the next item may well
    fail too. died: the worker process is gone.
    """

    item: Any
    result: Any = None
    error: InputError | None = None
    os_error: bool = False
    died: bool = False

    @property
    def reason(self) -> str | None:
        """The error in one line."""
        return str(self.error) if self.error else None

    def value(self) -> Any:
        """The result, for those who cannot go on without. Raises the error."""
        if self.error:
            raise self.error
        return self.result


def each(
    function: Callable,
    items: Iterable,
    *,
    jobs: int,
    timeout_s: float | None = None,
    always_isolated: bool = False,
    imports_program: bool = True,
) -> Iterator[Outcome]:
    """Call function(item) for every item; yields an Outcome per item, in order of completion.

    jobs: number of processes; 1 works in this one unless always_isolated. Any exception, a crash of
    the worker and an item that takes longer than timeout_s become reasons, so that the others are
    done. An item whose worker was killed from outside is tried again. function must be importable
    (not a lambda), its items and results picklable. Workers use one thread each for linear algebra.
    imports_program: see forkserver.
    """
    if jobs == 1 and not always_isolated:
        for item in items:
            yield _outcome(item, lambda item=item: function(item))
        return
    if isinstance(items, Sized):
        if not len(items):  # nor a process that imports what they would have needed
            return
        jobs = min(jobs, len(items))
    called = getattr(function, "func", function)  # of a partial
    preload(getattr(called, "__module__", None) or "builtins")
    queue: Iterator[tuple[Any, int]] = ((item, _TRIES) for item in items)
    for _ in range(_POOLS):
        broken: list[tuple[Any, int]] = []
        context = forkserver(imports_program=imports_program)
        pool = ProcessPool(max_workers=jobs, initializer=_leave_cleanly, context=context)
        yield from _in_a_pool(
            pool, partial(pool.schedule, function, timeout=timeout_s), queue, broken, 4 * jobs
        )
        if not broken:
            return
        queue = itertools.chain(broken, queue)
    for item, _ in queue:
        died = InputError("all worker processes died repeatedly")
        yield Outcome(item, error=died, died=True)


def _in_a_pool(
    pool: ProcessPool,
    start: Callable[..., Future],
    queue: Iterator[tuple[Any, int]],
    broken: list[tuple[Any, int]],
    at_once: int,
) -> Iterator[Outcome]:
    """Outcomes of the queue, whose entries are (item, how often it may be tried).

    What a pool that broke has not done goes to `broken`.
    """
    with pool:
        try:
            running: dict[Future, tuple[Any, int]] = {}
            for item, tries in queue:
                try:
                    running[start(args=[item])] = item, tries
                except RuntimeError:  # the pool is broken
                    broken.append((item, tries))
                    break
                # Enough to keep every worker busy, few enough to stay small
                if len(running) >= at_once:
                    yield from _finished(running, start, broken)
                if broken:
                    break
            while running:
                yield from _finished(running, start, broken)
        except BaseException:
            pool.stop()
            raise


def _finished(
    running: dict[Future, tuple[Any, int]],
    start: Callable[..., Future],
    broken: list[tuple[Any, int]],
) -> Iterator[Outcome]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        item, tries = running.pop(future)
        error = future.exception()
        killed = isinstance(error, ProcessExpired) and was_killed(error)
        # A worker that was told to end has left through every `finally`
        killed |= isinstance(error, SystemExit)
        if tries <= 1 or not (killed or isinstance(error, BrokenProcessPool)):
            yield _outcome(item, future.result)
            continue
        try:
            if isinstance(error, BrokenProcessPool):
                raise error
            running[start(args=[item])] = item, tries - 1
        except (BrokenProcessPool, RuntimeError):
            broken.append((item, tries - 1))


def was_killed(expired: ProcessExpired) -> bool:
    """Whether somebody has ended a worker: the item that it worked on is not to blame."""
    return expired.exitcode in _KILLED


def _outcome(item: Any, call: Callable) -> Outcome:
    try:
        return Outcome(item, result=call())
    except InputError as error:
        return Outcome(item, error=error)
    except TimeoutError:
        return Outcome(item, error=InputError("took too long and was stopped"))
    except ProcessExpired as error:
        died = InputError(f"the worker process died (exit code {error.exitcode})")
        return Outcome(item, error=died, died=True)
    except (BrokenProcessPool, SystemExit):
        return Outcome(item, error=InputError("the worker process was terminated"), died=True)
    except OSError as error:
        return Outcome(item, error=input_error(error), os_error=True)
    # Of a library, or our bug: it is named, and does not take the other items along
    except Exception as error:
        return Outcome(item, error=unexpected(error))


def unexpected(error: Exception) -> InputError:
    """What is said of an exception that nobody has foreseen."""
    what = f"unexpected {type(error).__name__} ({_place(error)}): {error}"
    return InputError(what, remedy="please report it")


def _place(error: Exception) -> str:
    """Where it was raised, file and line; the traceback of a worker's arrives as text."""
    text = str(error.__cause__ or "") or "".join(traceback.format_tb(error.__traceback__))
    file, line = re.findall(r'File "([^"]+)", line (\d+)', text)[-1]
    return f"{Path(file).name}:{line}"


def _leave_cleanly() -> None:
    """In a worker: being stopped removes what is half written."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def preload(*modules: str) -> None:
    """Have worker processes find these modules loaded, if none has been started yet."""
    _PRELOADED.extend(module for module in modules if module not in _PRELOADED)


class _WithoutProgram(multiprocessing.context.ForkServerProcess):
    """A worker that does not import the script that asks for it, and torch with it.

    What such a worker needs is in modules.
    """

    @staticmethod
    def _Popen(process: BaseProcess) -> Any:
        with _program_hidden():
            return multiprocessing.context.ForkServerProcess._Popen(process)


class _WithoutProgramContext(multiprocessing.context.ForkServerContext):
    Process = _WithoutProgram


@contextlib.contextmanager
def _program_hidden() -> Iterator[None]:
    """Meanwhile multiprocessing finds no script that a worker would have to import as __main__."""
    main = vars(sys.modules["__main__"])
    with _hiding:
        hidden: dict[str, Any] = {name: main[name] for name in _PLACES if name in main}
        main.update(dict.fromkeys(hidden))
        try:
            yield
        finally:
            main.update(hidden)


def forkserver(*, imports_program: bool = True) -> multiprocessing.context.BaseContext:
    """Workers that come from a clean process, which has imported the modules once.

    This is quicker than starting anew, and safer than fork.

    imports_program: workers import the running script as well, which they need for functions and
    items that it defines.
    """
    if imports_program:
        preload("__main__")
    multiprocessing.set_forkserver_preload(_PRELOADED)
    # Read by those libraries when they are imported, hence before the process starts
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # Modules come from where this process has them from, not from its working directory: Python
    # 3.11 does not tell the server, which gets workers their modules
    folders = (os.path.abspath(folder) for folder in sys.path)
    python_path = os.pathsep.join(folder for folder in folders if os.pathsep not in folder)
    variables |= {"PYTHONPATH": python_path, "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    main = threading.current_thread() is threading.main_thread()
    # Inherited: Ctrl-C is for the parent
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if main else None
    try:
        hiding = contextlib.nullcontext() if imports_program else _program_hidden()
        with _short_temporary_folder(), hiding:
            _end_without_socket()
            multiprocessing.forkserver.ensure_running()
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    if imports_program:
        return multiprocessing.get_context("forkserver")
    return _WithoutProgramContext()


def _make_folder(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)


def _end_without_socket() -> None:
    """End a server whose socket was cleaned away with other temporary files: nobody reaches it."""
    server: Any = multiprocessing.forkserver._forkserver
    pid, address = server._forkserver_pid, server._forkserver_address
    if pid is None or not address or address[:1] in ("\0", b"\0") or os.path.exists(address):
        return
    _make_folder(os.path.dirname(address))
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # multiprocessing collects it


@contextlib.contextmanager
def _short_temporary_folder() -> Iterator[None]:
    """Put the server's socket into the system's temporary folder where TMPDIR is too long.

    The socket lies in the temporary folder, and a socket's path may have about 100 bytes.
    """
    chosen = tempfile.gettempdir()
    if len(os.fsencode(chosen)) > _LONGEST_TEMPORARY:
        tempfile.tempdir = next(
            (place for place in _SYSTEMS_OWN if os.access(place, os.W_OK)), chosen
        )
    try:
        folder = multiprocessing.util.get_temp_dir()  # remembered by multiprocessing
        # Which complains at the end where it was cleaned away
        atexit.unregister(_make_folder)
        atexit.register(_make_folder, folder)
        yield
    finally:
        tempfile.tempdir = chosen
