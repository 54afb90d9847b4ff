"""gan-denoise enhance: denoise files with a trained model."""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.commands import arguments as options
from gan_denoise.commands import each_file, pipes, report
from gan_denoise.commands.files import FILES, Task, tasks
from gan_denoise.errors import InputError
from gan_denoise.system import workers

if TYPE_CHECKING:
    from gan_denoise.enhance import Denoiser


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "enhance",
        help="remove noise from a file, a folder, or the files of a list",
        description=(
            "Remove noise from a file, a folder, or the files of a list. The output has the length,"
            " sample rate and channels of the input. Output files that exist are kept and counted"
            " as skipped. If IN is one file and OUT exists, that is an error."
        ),
    )
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument(
        "--mix",
        type=options.share,
        default=1.0,
        metavar="SHARE",
        help="share of the enhanced signal in the output; the rest is the input (default 1)",
    )
    options.add_limit(kept)
    parser.add_argument(
        "--high-band",
        choices=("model", "drop", "keep"),
        help=(
            "what to do with frequencies above half of the model's sample rate: lower their noise"
            " as well (model, default of the packaged models), drop them (drop, default of others),"
            " or keep them unchanged (keep)"
        ),
    )
    parser.add_argument(
        "--stereo",
        choices=("linked", "separate"),
        default="linked",
        help=(
            "how to enhance several channels: with one mask where they hold the same sound, so that"
            " it keeps its place (linked, default), or each by itself (separate)"
        ),
    )
    options.add_model(parser, "files")
    options.add_jobs(parser)
    each_file.add_options(parser)
    report.add_options(parser, what="file")
    parser.add_argument(
        "inputs",
        type=options.path,
        nargs="+",
        metavar="IN",
        help=f"{FILES}; - reads WAV from standard input; for several IN, OUT is a folder",
    )
    each_file.add_output(
        parser, "written in the format of the input", "; - writes WAV to standard output"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.json and arguments.output == pipes.PIPE:
        raise InputError("--json", "standard output is for the recording", "name a file as OUT")
    told = report.report_of("enhance", arguments)
    with pipes.opened(arguments.inputs, arguments.output) as piped:
        if piped:
            (task,) = _tasks(arguments, [piped.source], piped.target, told)
            all_tasks = [dataclasses.replace(task, called=piped.called)]
        else:
            all_tasks = _tasks(arguments, arguments.inputs, arguments.output, told)
        one = len(arguments.inputs) == 1 and arguments.inputs[0].is_file() and len(all_tasks) == 1
        if arguments.dry_run:
            return each_file.plan(all_tasks, told, overwrite=arguments.overwrite, one=one)
        due = each_file.to_do(all_tasks, told, overwrite=arguments.overwrite, one=one)
        _work_through(due, arguments, told)
        if not told.failed:
            each_file.list_outputs(arguments.output, all_tasks)
    return told.end()


def _tasks(
    arguments: argparse.Namespace, sources: Sequence[Path], target: Path, told: report.Report
) -> list[Task]:
    return tasks(
        sources,
        target,
        overwrite=arguments.overwrite,
        mirror=True,
        note=told.note,
        into_folder=arguments.into_folder,
    )


def _work_through(due: list[Task], arguments: argparse.Namespace, told: report.Report) -> None:
    jobs = min(arguments.jobs, max(1, len(due)))
    if jobs > 1:
        workers.preload("gan_denoise.enhance")
    # A model that cannot do what is asked is one message, not one per file
    model = denoiser(arguments.model, arguments.device, one_thread=False)
    model.as_strength(arguments.strength)
    model.check_high_band(arguments.high_band)
    mix = arguments.mix
    if arguments.atten_lim is not None:
        from gan_denoise.enhance import mix_for_limit

        mix = mix_for_limit(arguments.atten_lim)
    work = partial(
        _enhance,
        model=arguments.model,
        device=arguments.device,
        one_thread=jobs > 1,  # several jobs share the cores among themselves
        mix=mix,
        high_band=arguments.high_band,
        strength=arguments.strength,
        stereo=arguments.stereo,
        told=told,
    )
    each_file.work_through(due, work, told, jobs=jobs)


def _enhance(
    task: Task,
    *,
    model: str | None,
    device: str,
    one_thread: bool,
    mix: float,
    high_band: str | None,
    strength: float | str | None,
    stereo: str,
    told: report.Report,
) -> list[str]:
    from gan_denoise.enhance import enhance_file

    def watch(blocks: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
        label = task.in_words(str(task.source)).rsplit("/")[-1]
        return told.progress(blocks, total=total, label=label, unit="blocks")

    return enhance_file(
        denoiser(model, device, one_thread),
        task.source,
        task.target,
        mix=mix,
        high_band=high_band,
        strength=strength,
        stereo=stereo,
        watch=watch if task.alone else None,
    )


@functools.cache
def denoiser(model: str | None, device: str, one_thread: bool) -> Denoiser:
    """The model, loaded once in each process."""
    import torch  # by those who need it: the other commands start without

    from gan_denoise.enhance import Denoiser

    if one_thread:
        torch.set_num_threads(1)
    return Denoiser.load(model, device=device)
