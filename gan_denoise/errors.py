"""The exception that means "your input, not our bug", and the one that means "once more"."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path
from typing import Any, overload


class InputError(ValueError):
    """Bad input, said in one line, "where: problem: remedy", which programs print before they exit.

        InputError(path, "the file is empty (0 bytes)", "replace or remove it")
        InputError("a masked array", remedy="fill its gaps first")  # which file is not known here

    where: the file, option, key or value; "" where it is not known, or stands in the problem, as in
    a line that was written in one. remedy: "" where there is none, or it stands in the problem.
    """

    @overload
    def __init__(self, problem: str, /, *, remedy: str = ""): ...

    @overload
    def __init__(self, where: object, problem: str, remedy: str = "", /): ...

    def __init__(self, *parts: Any, remedy: str = ""):
        where, problem, *last = parts if len(parts) > 1 else ("", *parts)
        self.where, self.problem = str(where), problem
        self.remedy: str = last[0] if last else remedy
        super().__init__(self.where, self.problem, self.remedy)  # what another process is sent

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.problem, self.remedy) if part)

    def at(self, file: Path, *others: Path) -> InputError:
        """The same error, told of `file`, unless it names that or one of the others already."""
        if self.where in map(str, (file, *others)):
            return self
        problem = f"{self.where}: {self.problem}" if self.where else self.problem
        return InputError(file, problem, self.remedy)


class BeginAgain(Exception):
    """Another process has just written where this one was about to write.

    What this process read before may no longer be so. gan_denoise.system.terminal.program begins
    the program again.
    """


def input_error(error: OSError) -> InputError:
    """An operating-system error in words for the user.

    The words name the file, what went wrong and, for the usual causes, a remedy.
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
    if error.filename:
        return InputError(error.filename, error.strerror or type(error).__name__, remedy)
    return InputError(str(error), remedy=remedy)


def os_error_line(error: OSError) -> str:
    """`input_error` as one line."""
    return str(input_error(error))


def nearest(word: str, words: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the nearest known word; otherwise the list of what is known."""
    words = sorted(words)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else f" (known: {', '.join(words)})"
