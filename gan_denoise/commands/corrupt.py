"""gan-denoise corrupt: the fixed noising procedure."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from gan_denoise.commands import arguments as options
from gan_denoise.commands import each_file, report
from gan_denoise.commands.files import Task, tasks
from gan_denoise.corruption.noise import corrupt_file, load_once
from gan_denoise.datadir import SPLITS


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "corrupt",
        help="add the noise of the experiments to clean speech",
        description=(
            "Add the noise of the experiments to clean speech. A recording gets the same noise"
            " whenever and wherever it is corrupted. The output is WAV. Output files that exist are"
            " kept and counted as skipped. If IN is one file and OUT exists, that is an error."
        ),
    )
    parser.add_argument(
        "--noise",
        type=options.path,
        metavar="FILE",
        help="a YAML file that describes the noise (default egs/vctk/conf/noise.yaml)",
    )
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help=(
            "the split whose noise recordings are mixed in, if FILE has `mix`: train, dev or test"
            " (default test)"
        ),
    )
    options.add_jobs(parser)
    each_file.add_options(parser)
    report.add_options(parser, what="file")
    each_file.add_input(parser)
    each_file.add_output(parser, "written as WAV")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    load_once(arguments.noise)  # a bad procedure is one message, not one per file
    told, overwrite = report.report_of("corrupt", arguments), arguments.overwrite
    all_tasks = tasks(
        [arguments.input],
        arguments.output,
        overwrite=overwrite,
        mirror=False,
        note=told.note,
        into_folder=arguments.into_folder,
    )
    one = arguments.input.is_file() and len(all_tasks) == 1
    if arguments.dry_run:
        return each_file.plan(all_tasks, told, overwrite=overwrite, one=one)
    due = each_file.to_do(all_tasks, told, overwrite=overwrite, one=one)
    work = partial(_corrupt, noise=arguments.noise, split=arguments.split)
    each_file.work_through(due, work, told, jobs=arguments.jobs)
    if not told.failed:
        each_file.list_outputs(arguments.output, all_tasks)
    return told.end()


def _corrupt(task: Task, *, noise: Path | None, split: str) -> list[str]:
    corrupt_file(noise, task.source, task.target, task.utt_id, split=split)
    return []
