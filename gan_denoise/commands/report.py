"""What a command says about its files.

It prints words for people, a JSON object a line for scripts, or only what failed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from gan_denoise.commands.arguments import QUIET
from gan_denoise.commands.files import Task
from gan_denoise.errors import InputError
from gan_denoise.system import terminal

Item = TypeVar("Item")


def add_options(parser: argparse.ArgumentParser, *, what: str) -> None:
    """what: of which there is a JSON object a line."""
    parser.add_argument("-q", "--quiet", action="store_true", help=QUIET)
    parser.add_argument(
        "--json",
        action="store_true",
        help=f"print one JSON object per {what} instead of text",
    )


def report_of(command: str, arguments: argparse.Namespace) -> Report:
    """As the options want it."""
    return (AsJson if arguments.json else Quiet if arguments.quiet else Report)(command)


class Report:
    """In words on standard error. `end` gives the exit status: 1 when a file failed."""

    def __init__(self, command: str):
        self.command = command
        self.done = self.skipped = self.failed = 0

    def progress(
        self, items: Iterable[Item], *, total: int, label: str = "", unit: str = "files"
    ) -> Iterator[Item]:
        label = f"{self.command} {label}".rstrip()
        return terminal.progress(items, total=total, label=label, unit=unit)

    def note(self, line: str) -> None:
        terminal.say(f"note: {line}")

    def tell_planned(self, task: Task, *, exists: bool) -> None:
        """Of a dry run. exists: the output does, so that the file is skipped."""
        terminal.tell(f"{task.source} -> {task.target}{' (exists, skipped)' if exists else ''}")

    def tell_skipped(self, task: Task) -> None:
        self.skipped += 1

    def tell_done(self, task: Task, notes: Iterable[str]) -> None:
        self.done += 1
        for note in notes:
            self.note(note)

    def tell_failed(self, task: Task, error: InputError) -> None:
        self.failed += 1
        terminal.fail(str(error))

    def end(self) -> int:
        total = self.done + self.skipped + self.failed
        if total > 1:
            parts = [f"{self.done} of {total} files done"]
            if self.skipped:
                parts.append(f"{self.skipped} skipped, they exist (--overwrite replaces them)")
            if self.failed:
                parts.append(f"{self.failed} failed")
            self.sum_up(f"{self.command}: {', '.join(parts)}")
        return 1 if self.failed else 0

    def sum_up(self, line: str) -> None:
        terminal.say(line)


class Quiet(Report):
    """What failed alone."""

    def progress(self, items: Iterable[Item], **_: Any) -> Iterator[Item]:
        yield from items

    def note(self, line: str) -> None:
        pass

    def sum_up(self, line: str) -> None:
        pass


class AsJson(Quiet):
    """A JSON object a line for every file.

    It holds "input", "output" and "status", which is done, skipped, failed or planned. "notes" are
    there where a file has some. A file that failed has "error": {"where", "problem", "remedy"}.
    """

    def tell_planned(self, task: Task, *, exists: bool) -> None:
        self._tell(task, "skipped" if exists else "planned")

    def tell_skipped(self, task: Task) -> None:
        super().tell_skipped(task)
        self._tell(task, "skipped")

    def tell_done(self, task: Task, notes: Iterable[str]) -> None:
        self.done += 1
        notes = list(notes)
        self._tell(task, "done", **({"notes": notes} if notes else {}))

    def tell_failed(self, task: Task, error: InputError) -> None:
        self.failed += 1
        fields = {"where": error.where, "problem": error.problem, "remedy": error.remedy}
        self._tell(task, "failed", error=fields)

    def _tell(self, task: Task, status: str, **more: Any) -> None:
        source, target = map(task.in_words, (str(task.source), str(task.target)))
        entry = {"input": source, "output": target, "status": status, **more}
        terminal.tell(json.dumps(entry, ensure_ascii=False))
