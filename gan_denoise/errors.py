"""The exception that means "your input, not our bug", and the one that means "once more"."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. Its message is a single line that names the file or value and the remedy; programs
    print it and exit.
    """


class BeginAgain(Exception):
    """Another process has just written where this one would: what was read before may be no longer
    so. gan_denoise.terminal.program begins the program again.
    """


def os_error_line(error: OSError) -> str:
    """One line for an operating-system error: the file, what went wrong, and what to do about the
    usual causes.
    """
    remedies = {
        "ENOSPC": "free some space or write elsewhere",
        "EACCES": "change its permissions or write elsewhere",
        "EROFS": "write elsewhere",
        "ENOENT": "check the path",
        "EISDIR": "name a file",
        "EEXIST": "a folder is expected there",
        "ENAMETOOLONG": "choose a shorter one",
        "ENOTDIR": "a folder is expected there",
    }
    remedy = remedies.get(errno.errorcode.get(error.errno or 0, ""), "")
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{what}: {remedy}" if remedy else what


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the nearest known word; otherwise the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(known)})"
