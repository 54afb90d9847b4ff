"""Files that are either whole or absent.

Every result goes through `writing` or `write_atomically`. What grows line by line (logs, lists of
what is done) is appended to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def writing(path: str | Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write into, which becomes `path` when the block ends.

    It is gone when the block raises. No reader finds half of it, and neither a kill nor a full disk
    leaves half of it. The folder is made. durable: survive a power failure too (waits for the
    disk). Raises OSError, and leaves an old file of that name untouched.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _unnamed(path.parent) or _hidden(path.parent) as (file, place):
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
            place(path)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(_SUFFIX):
            error.filename = str(path)  # the user knows this name, not the temporary one
        raise


def write_atomically(
    path: str | Path, content: bytes | memoryview | str, *, durable: bool = False
) -> None:
    """`writing` at once. content: bytes or text (UTF-8). Raises OSError."""
    with writing(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


_SUFFIX = ".part"
_Opened = tuple[BinaryIO, Callable[[Path], None]]  # a file, and what gives it its name


def _unnamed(folder: Path) -> contextlib.AbstractContextManager[_Opened] | None:
    """A file without a name until it is whole (Linux): whatever kills the process leaves nothing.

    None where the system or the file system cannot do that.
    """
    if not os.path.exists("/proc/self/fd"):
        return None
    try:
        handle = os.open(folder, os.O_RDWR | os.O_TMPFILE, 0o666)
    except OSError:  # a file system without it; what else is wrong shows again
        return None

    @contextlib.contextmanager
    def opened() -> Iterator[_Opened]:
        with os.fdopen(handle, "w+b") as file:
            yield file, partial(_link, handle)

    return opened()


def _link(handle: int, path: Path) -> None:
    try:
        _name(handle, path)
    except FileExistsError:  # a link replaces nothing
        name = path.parent / f".{secrets.token_hex(4)}{_SUFFIX}"
        _name(handle, name)
        _replace(name, path)


def _name(handle: int, path: Path) -> None:
    # A folder's descriptor, which an absolute path needs not, makes Python follow the link to the
    # file
    os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[_Opened]:
    """A file with a hidden name, which is removed unless it is placed.

    The name is short enough even beside the longest names.
    """
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=_SUFFIX)
    try:
        with os.fdopen(handle, "w+b") as file:
            with contextlib.suppress(OSError):  # mounts without modes: WSL, object stores
                os.fchmod(handle, 0o666 & ~_umask())  # mkstemp makes private files
            yield file, partial(_replace, name)
    finally:
        Path(name).unlink(missing_ok=True)


def _replace(name: str | Path, path: Path) -> None:
    try:
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let signals that would interrupt the program wait until the block ends.

    The block holds C code that calls back into Python: the exception of a signal would be lost
    there, and the work would go on.
    """
    if threading.current_thread() is not threading.main_thread():  # no other is interrupted
        yield
        return
    waiting: list[int] = []
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            if callable(handler):
                stack.callback(_take_effect, number, handler, waiting)
                stack.callback(signal.signal, number, handler)
                signal.signal(number, lambda number, frame: waiting.append(number))
        yield


def _take_effect(number: int, handler: Callable[[int, None], object], waiting: list[int]) -> None:
    if number in waiting:
        handler(number, None)


def digest(content: object) -> str:
    """12 hexadecimal digits of the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
