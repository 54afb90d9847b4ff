"""gan-denoise: the library from the command line. It and serve/ talk to people, the rest of
the library does not; __main__.py starts it.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import __version__, audio, workers
from gan_denoise.datadir import SPLITS, read_scp, write_table
from gan_denoise.encoding import container
from gan_denoise.errors import InputError
from gan_denoise.ids import utt_id_below, utt_id_of_file
from gan_denoise.metrics import ALL, METRICS, with_companions
from gan_denoise.noise import corrupt_file, load_once
from gan_denoise.serve import command as serve_command
from gan_denoise.terminal import fail, progress, say, tell

_NAMED = 5  # of files that are left out
FILES = "a file, a folder (mirrored), or an scp file"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gan-denoise", allow_abbrev=False, description="Corrupt, enhance and score speech."
    )
    parser.add_argument("--version", action="version", version=f"gan-denoise {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    jobs: Any = {"type": _positive, "default": 1, "metavar": "N", "help": "number of processes (1)"}

    corrupt = commands.add_parser(
        "corrupt", allow_abbrev=False, help="apply the fixed noising procedure"
    )
    corrupt.add_argument(
        "--noise",
        type=Path,
        metavar="FILE",
        help="procedure, as egs/vctk/conf/noise.yaml (the default one)",
    )
    corrupt.add_argument(
        "--split",
        choices=SPLITS,
        default="test",
        help="whose recordings a procedure with `mix` uses (test)",
    )
    corrupt.set_defaults(run=run_corrupt)

    enhance = commands.add_parser(
        "enhance", allow_abbrev=False, help="denoise with a trained model"
    )
    enhance.add_argument(
        "--mix",
        type=_share,
        default=1.0,
        metavar="0..1",
        help="1: enhanced only (default), 0: input only",
    )
    enhance.add_argument(
        "--high-band",
        choices=("drop", "keep"),
        default="drop",
        help=(
            "what the model does not hear, above half its sample rate: drop it (default) or keep it"
            " as it is"
        ),
    )
    enhance.set_defaults(run=run_enhance)

    stream = commands.add_parser(
        "stream", allow_abbrev=False, help="denoise raw mono s16le live, between pipes"
    )
    stream.add_argument(
        "--sample-rate",
        type=_positive,
        metavar="HZ",
        help="of what comes in and goes out (the model's)",
    )
    for name in ("input", "output"):
        stream.add_argument(name, choices=("-",), help="standard input and output")
    stream.set_defaults(run=run_stream)
    for command, own in ((enhance, "files"), (stream, "live")):
        command.add_argument(
            "--model",
            type=_model,
            metavar="DIR",
            help=f"as exp/l1/model, or files or live, which are in the package ({own})",
        )
        command.add_argument(
            "--strength",
            type=_strength,
            metavar="S",
            help="gentle: speech is spared; balanced (default); strong: no noise is; or 0 to 1",
        )
        command.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")

    serve = commands.add_parser("serve", allow_abbrev=False, help="a service, and a page to try it")
    serve_command.add_options(serve, _positive)
    serve.set_defaults(run=serve_command.run)

    export = commands.add_parser("export", allow_abbrev=False, help="write a model as ONNX")
    export.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    export.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="model directory; live is in the package",
    )
    export.add_argument(
        "output",
        type=Path,
        metavar="OUT.onnx",
        help="whole signals; a model that streams has OUT.stream.onnx too",
    )
    export.set_defaults(run=run_export)

    explain = commands.add_parser(
        "explain", allow_abbrev=False, help="where a model came from, and what no longer matches"
    )
    explain.add_argument(
        "--data", type=Path, metavar="DIR", help="train and dev (data beside the model's exp)"
    )
    explain.add_argument(
        "model", type=Path, metavar="MODEL", help="model directory, or files or live"
    )
    explain.set_defaults(run=run_explain)

    for command, kind in ((corrupt, "WAV files"), (enhance, "in the same format")):
        command.add_argument("--jobs", **jobs)
        command.add_argument(
            "--overwrite", action="store_true", help="replace output files that exist"
        )
        command.add_argument("input", type=Path, metavar="IN", help=FILES)
        command.add_argument(
            "output",
            type=Path,
            metavar="OUT",
            help=f"the same kind, {kind}; OUT.scp writes to the folder OUT",
        )

    score = commands.add_parser(
        "score", allow_abbrev=False, help="score enhanced speech against clean speech"
    )
    score.add_argument(
        "--noisy", type=Path, help=f"the input of the denoiser, needed for wsdr: {FILES}"
    )
    score.add_argument(
        "--metrics",
        type=_metrics,
        metavar="NAMES",
        help=f"with commas, of {', '.join(ALL)} ({', '.join(METRICS)})",
    )
    score.add_argument(
        "--high-pass",
        action="store_true",
        help=(
            "compare with CLEAN without what lies below 60 Hz, which the package's models take for"
            " noise"
        ),
    )
    score.add_argument("--csv", type=Path, metavar="FILE", help="write one row per utterance")
    score.add_argument("--jobs", **jobs)
    score.add_argument("--overwrite", action="store_true", help="replace the CSV file if it exists")
    score.add_argument("clean", type=Path, metavar="CLEAN", help=FILES)
    score.add_argument("enhanced", type=Path, metavar="ENHANCED", help="the same utt_ids")
    score.set_defaults(run=run_score)

    arguments = parser.parse_args()
    return arguments.run(arguments)


def run_corrupt(arguments: argparse.Namespace) -> int:
    load_once(arguments.noise)  # a bad procedure is one message, not one per file
    return _each_file(
        arguments, "corrupt", partial(_corrupt, noise=arguments.noise, split=arguments.split)
    )


def _corrupt(task: Task, *, noise: Path | None, split: str) -> list[str]:
    corrupt_file(noise, task.source, task.target, task.utt_id, split=split)
    return []


def run_enhance(arguments: argparse.Namespace) -> int:
    if arguments.jobs > 1:
        workers.preload("gan_denoise.enhance")
    # Several jobs share the cores among themselves; one file is one job
    several = arguments.input.is_dir() or _lists_files(arguments.input)
    one_thread = arguments.jobs > 1 and several
    # A wrong model or strength is one message, not one per file
    _denoiser(arguments.model, arguments.device, one_thread=False).as_strength(arguments.strength)
    work = partial(
        _enhance,
        model=arguments.model,
        device=arguments.device,
        one_thread=one_thread,
        mix=arguments.mix,
        high_band=arguments.high_band,
        strength=arguments.strength,
    )
    return _each_file(arguments, "enhance", work, mirror=True)


def _enhance(
    task: Task,
    *,
    model: Path | None,
    device: str,
    one_thread: bool,
    mix: float,
    high_band: str,
    strength: float | str | None,
) -> list[str]:
    from gan_denoise.enhance import enhance_file

    def watch(blocks: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
        return progress(blocks, total=total, label=f"enhance {task.source.name}", unit="blocks")

    denoiser = _denoiser(model, device, one_thread)
    return enhance_file(
        denoiser,
        task.source,
        task.target,
        mix=mix,
        high_band=high_band,
        strength=strength,
        watch=watch if task.alone else None,
    )


@functools.cache
def _denoiser(model: Path | None, device: str, one_thread: bool):
    """The model, loaded once in each process."""
    import torch  # by those who need it: the other commands start without

    from gan_denoise.enhance import Denoiser

    if one_thread:
        torch.set_num_threads(1)
    return Denoiser.load(model, device=device)


def run_stream(arguments: argparse.Namespace) -> int:
    for name, stream in (("input", sys.stdin), ("output", sys.stdout)):
        if stream is None:
            raise InputError(f"standard {name} is closed", remedy="pipe raw s16le in and out")
        if stream.isatty():
            raise InputError(
                f"standard {name} is a terminal, not audio", remedy="pipe raw s16le in and out"
            )
    from gan_denoise.live import live

    # A hop is too little to share
    denoiser = _denoiser(arguments.model, arguments.device, one_thread=True)
    rate = arguments.sample_rate or denoiser.sample_rate
    pipes = sys.stdin.fileno(), sys.stdout.fileno()
    return live(denoiser, rate, *pipes, say, strength=arguments.strength)


def run_export(arguments: argparse.Namespace) -> int:
    from gan_denoise.export import export

    folder = _model_folder(arguments.model)
    for line in export(folder, arguments.output, overwrite=arguments.overwrite):
        say(line)
    return 0


@dataclass(frozen=True)
class Task:
    """One file to be read and one to be written. utt_id: where the command needs one. alone: there
    is no other.
    """

    source: Path
    target: Path
    utt_id: str
    alone: bool


def _each_file(
    arguments: argparse.Namespace,
    what: str,
    work: Callable[[Task], list[str]],
    *,
    mirror: bool = False,
) -> int:
    """Do `work` for every file of IN that has no output yet. Exit status 1 when one failed, after
    doing the others.

    work: returns what is to be noted. mirror: outputs are called as their inputs are, so no utt_id
    is needed; else .wav.
    """
    tasks = _tasks(arguments.input, arguments.output, overwrite=arguments.overwrite, mirror=mirror)
    todo = [task for task in tasks if arguments.overwrite or not task.target.exists()]
    skipped = len(tasks) - len(todo)
    if skipped and len(tasks) == 1 and not arguments.input.is_dir():
        raise InputError(tasks[0].target, "exists", "choose another name, or give --overwrite")
    failed = 0
    outcomes = workers.each(work, todo, jobs=min(arguments.jobs, max(1, len(todo))))
    for outcome in progress(outcomes, total=len(todo), label=what):
        if outcome.error:
            failed += 1
            fail(str(outcome.error.at(outcome.item.source, outcome.item.target)))
        for note in outcome.result or ():
            say(f"note: {note}")
    if _lists_files(arguments.output) and not failed:
        write_table(arguments.output, {task.utt_id: task.target.resolve() for task in tasks})
    if len(tasks) > 1:
        parts = [f"{len(todo) - failed} of {len(tasks)} files done"]
        parts += [f"{skipped} skipped, they exist (--overwrite replaces them)"] if skipped else []
        parts += [f"{failed} failed"] if failed else []
        say(f"{what}: {', '.join(parts)}")
    return 1 if failed else 0


def _lists_files(path: Path) -> bool:
    """Whether it is an scp file, by its name."""
    return path.suffix.lower() == ".scp" and not path.is_dir()


def _tasks(source: Path, target: Path, *, overwrite: bool, mirror: bool) -> list[Task]:
    """The files of IN with their outputs. Raises InputError where IN holds none, or OUT does not
    fit IN.
    """

    def suffix(path: Path) -> str:
        return path.suffix if mirror and container(path.suffix) else ".wav"

    if source.is_dir():
        if _lists_files(target) or target.is_file():
            raise InputError(target, f"{source} is a folder, so OUT has to be a folder too")
        if target.resolve().is_relative_to(source.resolve()):
            raise InputError(target, "lies inside the input folder", "choose another OUT")
        files = {str(path): path for path in _found(source)} if mirror else _files(source)
        pairs = {
            key: target / path.relative_to(source).with_suffix(suffix(path))
            for key, path in files.items()
        }
    elif _lists_files(source):
        files = _files(source)
        if target.suffix.lower() in audio.READ and not target.is_dir():
            raise InputError(
                target, f"{source} lists files, so OUT has to be a folder or an scp file"
            )
        if target.exists() and _lists_files(target) and (not overwrite or target.samefile(source)):
            raise InputError(
                target, "exists", "choose another OUT, or give --overwrite if it is not the input"
            )
        folder = target.with_suffix("") if _lists_files(target) else target
        pairs = {key: folder / f"{key}{suffix(path)}" for key, path in files.items()}
    else:
        if not source.exists():
            raise InputError(source, "no such file or folder", "check the path")
        if _lists_files(target):
            raise InputError(target, f"{source} is one file, so OUT has to be a file or a folder")
        files = {str(source): source} if mirror else _files(source)
        (key,) = files
        if target.is_dir():
            target = target / f"{source.stem}{suffix(source)}"
        if not mirror and target.suffix.lower() != ".wav":
            raise InputError(
                target, "WAV is what is written", f"name it {target.with_suffix('.wav').name}"
            )
        pairs = {key: target}
    _refuse_overlap(files, pairs)
    return [Task(files[key], path, key, alone=len(files) == 1) for key, path in pairs.items()]


def _refuse_overlap(files: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """Raises InputError where an output is an input, whatever its name, or another output."""
    inputs = {_identity(path): path for path in files.values() if path.exists()}
    made: dict[str, str] = {}
    for key, path in outputs.items():
        if known := inputs.get(_identity(path)):
            raise InputError(
                path,
                f"would be written from {files[key]}, and is an input file ({known})",
                "choose another OUT",
            )
        if (other := made.setdefault(os.path.realpath(path), key)) != key:
            raise InputError(
                path, f"would be written from {files[other]} and from {files[key]}", "rename one"
            )


def _identity(path: Path) -> object:
    """What two names of a file have in common."""
    try:
        about = path.stat()
    except OSError:
        return os.path.realpath(path)
    return about.st_dev, about.st_ino


def _found(folder: Path) -> list[Path]:
    """The recordings of a folder; what it holds besides is named."""
    files = audio.find(folder, audio.READ)
    others = sorted({*audio.find(folder, None)} - {*files}, key=os.fsencode)
    if not files:
        raise InputError(
            folder, f"holds no audio files ({', '.join(audio.SUFFIXES)}, ...)", "check the path"
        )
    if others:
        names = ", ".join(str(path.relative_to(folder)) for path in others[:_NAMED])
        more = ", ..." if len(others) > _NAMED else ""
        say(f"note: {folder}: left out, no audio by their names: {len(others)} ({names}{more})")
    return files


def _files(source: Path) -> dict[str, Path]:
    """utt_id -> file, for a file, a folder or an scp file. Raises InputError."""
    if source.is_dir():
        files: dict[str, Path] = {}
        for path in _found(source):
            utt_id = utt_id_below(path, source)
            if utt_id in files:
                raise InputError(
                    path,
                    f"has the same utt_id, {utt_id}, as {files[utt_id]}",
                    "rename or remove one",
                )
            files[utt_id] = path
        return files
    if _lists_files(source):
        return read_scp(source)
    if not source.exists():
        raise InputError(source, "no such file or folder", "check the path")
    return {utt_id_of_file(source): source}


def _model_folder(model: Path) -> Path:
    """`boxed` was the package's model before there were two."""
    from gan_denoise.enhance import model_folder

    return model_folder("live" if str(model) == "boxed" else model)


def run_explain(arguments: argparse.Namespace) -> int:
    from gan_denoise import origin

    tree = origin.explain(_model_folder(arguments.model), arguments.data)
    tell(*origin.render(tree))
    if count := origin.broken(tree):
        say(f"note: {count} of these no longer match (✗)")
    return 0


def run_score(arguments: argparse.Namespace) -> int:
    clean, enhanced = _files(arguments.clean), _files(arguments.enhanced)
    noisy = _files(arguments.noisy) if arguments.noisy else {}
    if len(clean) == len(enhanced) == 1 and not (
        arguments.clean.is_dir() or _lists_files(arguments.clean)
    ):
        (utt_id,) = clean  # two files, whatever they are called
        enhanced = dict(zip([utt_id], enhanced.values(), strict=True))
        if len(noisy) > 1:
            raise InputError(arguments.noisy, f"holds {len(noisy)} files, one is needed", "name it")
        noisy = dict(zip([utt_id], noisy.values(), strict=True)) if noisy else {}
    if arguments.csv and arguments.csv.exists() and not arguments.overwrite:
        raise InputError(arguments.csv, "exists", "choose another name, or give --overwrite")
    for path in (*clean.values(), *enhanced.values(), *noisy.values()):
        if (
            arguments.csv
            and arguments.csv.exists()
            and path.exists()
            and path.samefile(arguments.csv)
        ):
            raise InputError(path, "is an input", "choose another --csv")
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
    if scoring.swapped(pairs):
        say(
            f"note: {arguments.clean} has louder pauses than {arguments.enhanced}: is CLEAN the"
            " first argument?"
        )
    judged = scoring.alignment_of(pairs, jobs=arguments.jobs)
    if judged.refusal:
        raise InputError(arguments.enhanced, f"of its files {judged.refusal}", "align them first")
    for note in judged.notes:
        say(f"note: {arguments.enhanced}: files are {note}")
    rows = list(
        progress(
            scoring.score(pairs, jobs=arguments.jobs, metrics=names),
            total=len(pairs),
            label="score",
        )
    )
    unwritten = None
    try:
        if arguments.csv:
            scoring.write_csv(arguments.csv, rows)
    except OSError as error:
        unwritten = error  # the means are not lost with it
    scored = 0
    for name in names:
        values = [row[name] for row in rows if row[name] is not None]
        mean = f"{np.mean(values):8.3f}" if values else "       -"
        tell(f"{name:18s} {mean}   {len(values)} of {len(rows)} utterances")
        scored += len(values)
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for name in names:
            if reason := row.get(f"{name}_reason"):
                reasons.setdefault(reason, []).append(name)
        for reason, empty in reasons.items():
            fail(
                f"{row['utt_id']}:"
                f" {'all metrics' if len(empty) == len(names) else ', '.join(empty)}: {reason}"
            )
    if unwritten:
        raise unwritten
    return 0 if scored == len(names) * len(rows) else 1


def _metrics(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in ALL]:
        raise argparse.ArgumentTypeError(
            f"unknown metric {unknown[0]!r} (there are: {', '.join(ALL)})"
        )
    return names


def _model(text: str) -> Path | None:
    """`boxed` was the package's model before there were two: both, each where it is at home."""
    return None if text == "boxed" else Path(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text!r}")
    return int(text)


def _strength(text: str) -> float | str:
    if text in ("gentle", "balanced", "strong"):
        return text
    try:
        return _share(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f"expected gentle, balanced, strong, or 0 to 1, found {text!r}"
        ) from error


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected 0 to 1, found {text}")
    return value
