"""One writer at a time: a lock on a folder that dies with its process, and the clearing of what a
killed one left.

The lock is POSIX's on FOLDER/.lock (fcntl): the kernel drops it with the process, whatever ends
that, and NFS servers (version 3 with lockd, and 4) keep it across machines. The file stays and
means nothing by itself. A file system without locks, and one that is read-only, are used without.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from gan_denoise.errors import InputError

LOCK = ".lock"
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def owning(*folders: Path, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Be the only program that writes into these folders, which are made where they are missing.

    What a killed owner has left half-written there (`.*.part`) is removed first; a folder below
    that has an owner of its own is left to that one. shared: others that own them shared may write
    there as well, and nothing is removed. Where another process owns one of them, raises
    InputError, or waits for it. Raises OSError where a folder cannot be made.
    """
    with contextlib.ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder, wait, shared)
            if lock is not None:
                held.callback(os.close, lock)  # which unlocks
        for folder in () if shared else folders:
            _clear(folder)
        yield


def _locked(folder: Path, wait: bool, shared: bool) -> int | None:
    """The descriptor of the locked file, or None where there can be no lock."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # who cannot write has nothing to protect
            return None
        raise
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.lockf(lock, kind | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        owner = os.read(lock, 300).decode(errors="replace").strip() or "another process"
        os.close(lock)
        if error.errno in _HELD:
            message = f"{folder}: is being written by {owner}: wait for it, or stop it"
            raise InputError(message) from error
        if error.errno in _NO_LOCKS:
            return None
        raise
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.truncate(lock, 0)
        program = Path(sys.argv[0]).name
        os.write(lock, f"{program}, process {os.getpid()} on {platform.node()}\n".encode())
    return lock


def _clear(folder: Path) -> None:
    """Remove hidden files and folders called `.*.part` below a folder."""
    for place, folders, names in os.walk(folder):
        if place != str(folder) and LOCK in names:
            folders.clear()
            continue
        for name in names:
            if _is_partial(name):
                (Path(place) / name).unlink(missing_ok=True)
        for name in filter(_is_partial, list(folders)):
            shutil.rmtree(Path(place) / name, ignore_errors=True)
            folders.remove(name)


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")
