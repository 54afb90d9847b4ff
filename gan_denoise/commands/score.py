"""gan-denoise score: enhanced speech against clean speech, in pairs by utt_id."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.commands import arguments as options
from gan_denoise.commands import report
from gan_denoise.commands.files import FILES, Note, files_of, lists_files
from gan_denoise.errors import InputError
from gan_denoise.metrics import ALL, METRICS, OPTIONAL, with_companions
from gan_denoise.system.terminal import fail, tell

if TYPE_CHECKING:
    from gan_denoise.scoring import Pair, Row


def add(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "score",
        help="score the output of any denoiser against clean speech",
        description=(
            "Score the output of any denoiser against clean speech, in pairs of the same name, and"
            " print the mean of each metric. The exit status is 1 if a metric could not be computed"
            " for an utterance. A CSV file that exists is an error unless --overwrite is given."
        ),
    )
    parser.add_argument(
        "--noisy",
        type=options.path,
        metavar="NOISY",
        help=f"the input of the denoiser, which the metric wsdr needs: {FILES}",
    )
    parser.add_argument(
        "--metrics",
        type=_metrics,
        metavar="NAMES",
        help=(
            f"names of metrics, separated by commas (default {','.join(METRICS)}; also available:"
            f" {', '.join(OPTIONAL)})"
        ),
    )
    parser.add_argument(
        "--high-pass",
        action="store_true",
        help=(
            "remove what lies below 60 Hz from CLEAN first, since the packaged models take it for"
            " noise"
        ),
    )
    parser.add_argument(
        "--csv",
        type=options.path,
        metavar="FILE",
        help="write a CSV file with one row for each utterance",
    )
    options.add_jobs(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing CSV file (default: refuse)",
    )
    report.add_options(parser, what="utterance")
    parser.add_argument(
        "clean", type=options.path, metavar="CLEAN", help=f"the clean speech: {FILES}"
    )
    parser.add_argument(
        "enhanced",
        type=options.path,
        metavar="ENHANCED",
        help="the output of the denoiser, as CLEAN is: files with the same names",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    told = report.report_of("score", arguments)
    clean, enhanced, noisy = _files(arguments, told.note)
    _check_csv(arguments, (*clean.values(), *enhanced.values(), *noisy.values()))
    if not clean.keys() & enhanced.keys():
        raise InputError(
            arguments.enhanced,
            f"has no utt_id in common with {arguments.clean}",
            "pairs are made by utt_id",
        )
    from gan_denoise import scoring  # which has worker processes load the metrics

    names = with_companions(
        arguments.metrics or [name for name in METRICS if name != "wsdr" or noisy]
    )
    reading = any(ALL[name].task == "wer" for name in names)
    texts = scoring.texts_beside(arguments.clean) if reading else {}
    pairs = [
        scoring.Pair(
            utt_id,
            clean.get(utt_id),
            enhanced.get(utt_id),
            noisy.get(utt_id),
            high_pass=arguments.high_pass,
            text=texts.get(utt_id),
        )
        for utt_id in sorted(clean.keys() | enhanced.keys())
    ]
    _check_pairs(arguments, pairs, told.note)
    scores = scoring.score(pairs, jobs=arguments.jobs, metrics=names)
    rows = list(told.progress(scores, total=len(pairs)))
    unwritten = None
    try:
        if arguments.csv:
            scoring.write_csv(arguments.csv, rows)
    except OSError as error:
        unwritten = error  # the means are not lost with it
    if arguments.json:
        tell(*(json.dumps(row, ensure_ascii=False) for row in rows))
    else:
        _tell_means(rows, names)
    if unwritten:
        raise unwritten
    return 0 if all(row[name] is not None for row in rows for name in names) else 1


Files = dict[str, Path]


def _files(arguments: argparse.Namespace, note: Note) -> tuple[Files, Files, Files]:
    """Clean, enhanced and noisy files by utt_id; of two files, whatever they are called."""
    clean, enhanced = files_of(arguments.clean, note), files_of(arguments.enhanced, note)
    noisy = files_of(arguments.noisy, note) if arguments.noisy else {}
    if len(clean) == len(enhanced) == 1 and not (
        arguments.clean.is_dir() or lists_files(arguments.clean)
    ):
        (utt_id,) = clean
        enhanced = dict(zip([utt_id], enhanced.values(), strict=True))
        if len(noisy) > 1:
            raise InputError(arguments.noisy, f"holds {len(noisy)} files, one is needed", "name it")
        noisy = dict(zip([utt_id], noisy.values(), strict=True)) if noisy else {}
    return clean, enhanced, noisy


def _check_csv(arguments: argparse.Namespace, inputs: Iterable[Path]) -> None:
    csv = arguments.csv
    if csv is None or not csv.exists():
        return
    if not arguments.overwrite:
        raise InputError(csv, "exists", "choose another name, or give --overwrite")
    for path in inputs:
        if path.exists() and path.samefile(csv):
            raise InputError(path, "is an input", "choose another --csv")


def _check_pairs(arguments: argparse.Namespace, pairs: list[Pair], note: Note) -> None:
    """Raises InputError where clean and enhanced are no pairs; notes what is odd."""
    from gan_denoise import scoring

    if scoring.swapped(pairs):
        note(
            f"{arguments.clean} has louder pauses than {arguments.enhanced}: is CLEAN the"
            " first argument?"
        )
    judged = scoring.alignment_of(pairs, jobs=arguments.jobs)
    if judged.refusal:
        raise InputError(arguments.enhanced, judged.refusal, "align them first")
    for line in judged.notes:
        note(f"{arguments.enhanced}: files are {line}")


def _tell_means(rows: Sequence[Row], names: Sequence[str]) -> None:
    """The means on standard output, and why values are missing on standard error."""
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        mean = f"{np.mean(values):8.3f}" if values else "       -"
        tell(f"{name:18s} {mean}   {len(values)} of {len(rows)} utterances")
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for name in names:
            if reason := row.get(f"{name}_reason"):
                reasons.setdefault(reason, []).append(name)
        for reason, empty in reasons.items():
            metrics = "all metrics" if len(empty) == len(names) else ", ".join(empty)
            fail(f"{row['utt_id']}: {metrics}: {reason}")


def _metrics(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(
            f"unknown metric {unknown[0]!r} (there are: {', '.join(ALL)})"
        )
    return names
