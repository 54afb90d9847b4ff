"""The work of a command on every file of its IN."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from gan_denoise import audio
from gan_denoise.audio.encoding import check_suffix
from gan_denoise.commands.arguments import Output, path
from gan_denoise.commands.files import FILES, Task, lists_files
from gan_denoise.commands.report import Report
from gan_denoise.datadir import write_table
from gan_denoise.errors import InputError
from gan_denoise.system import workers


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing output files (default: keep and skip them)",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing; print the pairs of input and output",
    )


def add_output(parser: argparse.ArgumentParser, kind: str, more: str = "") -> None:
    """kind: of what is written."""
    parser.add_argument(
        "output",
        action=Output,
        metavar="OUT",
        help=(
            f"a folder (OUT/ makes one), or a file for a file, or an scp file for an scp file;"
            f" {kind}. OUT.scp lists the files that are written to the folder OUT{more}"
        ),
    )


def add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=path, metavar="IN", help=FILES)


def to_do(tasks: Sequence[Task], report: Report, *, overwrite: bool, one: bool) -> list[Task]:
    """Those that have no output yet; the others are reported.

    one: a single file was asked for. Raises InputError where that has its output.
    """
    waiting = _waiting(tasks, overwrite=overwrite, one=one)
    for task in tasks:
        if task not in waiting:
            report.tell_skipped(task)
    return waiting


def _waiting(tasks: Sequence[Task], *, overwrite: bool, one: bool) -> list[Task]:
    waiting = [task for task in tasks if overwrite or not task.target.exists()]
    if one and not waiting:
        raise InputError(tasks[0].target, "exists", "choose another name, or give --overwrite")
    return waiting


def plan(tasks: Sequence[Task], report: Report, *, overwrite: bool, one: bool) -> int:
    """Of a dry run: what would be done, or refused. Returns the exit status.

    one: as of `to_do`. No file is opened, so what is wrong within one is not seen.
    """
    waiting = _waiting(tasks, overwrite=overwrite, one=one)
    for task in tasks:
        try:
            if task in waiting:
                audio.check_file(task.source)
                check_suffix(task.target)
            report.tell_planned(task, exists=task not in waiting)
        except InputError as error:
            report.tell_failed(task, task.error(error))
    return 1 if report.failed else 0


def work_through(
    tasks: Sequence[Task], work: Callable[[Task], list[str]], report: Report, *, jobs: int
) -> None:
    """work: returns what is to be noted of a file."""
    outcomes = workers.each(work, tasks, jobs=min(jobs, max(1, len(tasks))))
    for outcome in report.progress(outcomes, total=len(tasks)):
        task: Task = outcome.item
        if outcome.error:
            report.tell_failed(task, task.error(outcome.error))
        else:
            report.tell_done(task, map(task.in_words, outcome.result))


def list_outputs(output: Path, tasks: Sequence[Task]) -> None:
    """Write OUT.scp, where that is what was asked for."""
    if lists_files(output):
        write_table(output, {task.utt_id: task.target.resolve() for task in tasks})
