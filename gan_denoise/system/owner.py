"""One writer at a time: a lock on a folder that ends with its process.

What a killed process left in the folder is cleared.

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
from typing import Literal

from gan_denoise.errors import BeginAgain, InputError
from gan_denoise.system.terminal import say

LOCK = ".lock"
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
_HELD = (errno.EACCES, errno.EAGAIN)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def owning(
    *folders: Path, busy: Literal["again", "wait", "refuse"] = "again", shared: bool = False
) -> Iterator[None]:
    """Be the only program that writes into these folders, which are made where they are missing.

    What a killed owner has left half-written there (`.*.part`) is removed first; a folder below
    that has an owner of its own is left to that one. shared: others that own them shared may write
    there as well, and nothing is removed. Raises OSError where a folder cannot be made.

    busy: what to do where another process owns one of them. again: say so, wait for it, and raise
    BeginAgain, since what was read before may be no longer so. wait: wait, and go on. refuse: raise
    InputError.
    """
    with contextlib.ExitStack() as held:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(folder, busy, shared)
            if lock is not None:
                held.callback(os.close, lock)  # which unlocks
        for folder in () if shared else folders:
            _clear(folder)
        yield


def _locked(folder: Path, busy: str, shared: bool) -> int | None:
    """The descriptor of the locked file, or None where there can be no lock."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno in _NOT_WRITABLE:  # who cannot write has nothing to protect
            return None
        raise
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.lockf(lock, kind | (0 if busy == "wait" else fcntl.LOCK_NB))
    except OSError as error:
        with contextlib.closing(os.fdopen(lock, "r+b")) as held:
            if error.errno in _NO_LOCKS:
                return None
            if error.errno not in _HELD:
                raise
            owner = held.read(300).decode(errors="replace").strip() or "another process"
            if busy == "refuse":
                message = f"{folder}: is being written by {owner}: wait for it, or stop it"
                raise InputError(message) from error
            say(f"{folder}: is being written by {owner}: waiting for it")
            fcntl.lockf(lock, kind)
        raise BeginAgain from error
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
