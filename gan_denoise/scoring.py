"""Scores of many utterances, one row each, computed by worker processes.

A worker may die, hang or refuse one utterance; the others are scored all the same. PESQ is C code
that can crash or never return, so no metric is computed in the calling process.
"""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.corruption.targets import high_pass, pause_depth_db
from gan_denoise.datadir import DataDir, read_table
from gan_denoise.errors import InputError
from gan_denoise.metrics import ALL, METRICS, Signals, Unscorable, with_companions
from gan_denoise.provenance.inputs import file_digests, made_from
from gan_denoise.signal import alignment
from gan_denoise.system import workers
from gan_denoise.system.files import write_atomically

# utt_id, metric -> its value or None, metric_reason -> why it has none
Row = dict[str, Any]
DECIMALS = 6  # beyond it, sums in another order show
_TIMEOUT_S = 120.0  # a 10-second pair takes about two
_JUDGED_TIMEOUT_S = 600.0  # a recogniser takes long over noise
_DIED_IN_PESQ = "PESQ does so with more than 50 utterances in a file: score shorter pieces"


@dataclass(frozen=True)
class Pair:
    """The files of one utterance.

    Without a clean or an enhanced file every metric is empty, with that reason. high_pass: whether
    the clean speech is meant without what lies below 60 Hz (gan_denoise/corruption/targets.py).
    text: what is said, where that is known.
    """

    utt_id: str
    clean: Path | None
    enhanced: Path | None
    noisy: Path | None = None
    high_pass: bool = False
    text: str | None = None


def pairs_of(data: DataDir, enhanced: Mapping[str, Path]) -> list[Pair]:
    """Every utterance of a data directory with its file in `enhanced`, in the directory's order."""
    return [
        Pair(key, data.wav[key], enhanced.get(key), data.noisy[key], text=data.text.get(key))
        for key in data.utt_ids
    ]


def texts_beside(clean: Path) -> dict[str, str]:
    """What is said, by utt_id, as Kaldi's file `text` has it; nothing where there is none.

    The file lies in the folder `clean`, or beside the scp file or recording `clean`. Raises
    InputError.
    """
    path = (clean if clean.is_dir() else clean.parent) / "text"
    return read_table(path) if path.is_file() else {}


def preload() -> None:
    """Import once what every worker process needs a second to import.

    For callers that start worker processes before they score.
    """
    workers.preload(__name__, "pesq", "pystoi", "mir_eval.separation")


def _check_packages(metrics: Iterable[str]) -> None:
    """Raises InputError where a metric's package is missing."""
    for name in metrics:
        for package in ALL[name].packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"score needs more packages ({package}, for {name}): in gan_denoise's folder,"
                    f' pip install ".[{ALL[name].extra}]", or leave it out of --metrics'
                )


def score(
    pairs: Sequence[Pair], *, jobs: int, metrics: Iterable[str] = tuple(METRICS)
) -> Iterator[Row]:
    """Score every pair; yields one row each, in the pairs' order, whatever the number of jobs.

    A row: utt_id, then each metric's value (float or None) and, for None, its reason under
    `<metric>_reason`. Metrics that one of them is to be read with come along. Raises InputError
    where a package is missing that a metric needs.
    """
    preload()
    metrics = with_companions(metrics)
    _check_packages(metrics)
    groups: dict[str, list[str]] = {}  # some apart, PESQ first, which takes longest
    for name in sorted(metrics, key=lambda name: ALL[name].task != "pesq"):
        groups.setdefault(ALL[name].task, []).append(name)
    tasks = [(pair, tuple(group)) for pair in pairs for group in groups.values()]
    rows: dict[str, Row] = {pair.utt_id: {} for pair in pairs}
    waiting = iter(pairs)
    pair = next(waiting, None)
    for outcome in workers.each(
        _score_group,
        tasks,
        jobs=jobs,
        timeout_s=_TIMEOUT_S if METRICS.keys() >= set(metrics) else _JUDGED_TIMEOUT_S,
        always_isolated=True,
        imports_program=False,
    ):
        scored, group = outcome.item
        reason = outcome.reason
        if outcome.died and ALL[group[0]].task == "pesq":
            reason = f"{reason}; {_DIED_IN_PESQ}"
        values = outcome.result or {name: (None, reason) for name in group}
        rows[scored.utt_id].update(values)
        while pair is not None and len(rows[pair.utt_id]) == len(metrics):
            yield _row(pair.utt_id, rows.pop(pair.utt_id), metrics)
            pair = next(waiting, None)


def _row(
    utt_id: str, values: Mapping[str, tuple[float | None, str | None]], metrics: Sequence[str]
) -> dict:
    row: dict[str, str | float | None] = {"utt_id": utt_id}
    for name in metrics:
        row[name] = values[name][0]
    for name in metrics:
        if values[name][1]:
            row[f"{name}_reason"] = values[name][1]
    return row


def _score_group(task: tuple[Pair, tuple[str, ...]]) -> dict[str, tuple[float | None, str | None]]:
    pair, names = task
    signals = _read(pair)
    values: dict[str, tuple[float | None, str | None]] = {}
    for name in names:
        try:
            for what in ("clean", "enhanced"):
                if not getattr(signals, what).any():
                    raise Unscorable(f"the {what} signal is silent")
            value = ALL[name].function(signals)
            if not np.isfinite(value):
                raise Unscorable("has no finite value for these signals (is one of them constant?)")
            values[name] = (round(value, DECIMALS), None)
        except Unscorable as reason:
            values[name] = (None, str(reason))
        # Of a metric's library: the reason of this value, not the end of the others
        except Exception as error:
            values[name] = (None, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return values


def _read(pair: Pair) -> Signals:
    if pair.clean is None or pair.enhanced is None:
        raise InputError(f"has no {'clean' if pair.clean is None else 'enhanced'} file")
    clean, sample_rate = audio.read_mono(pair.clean, dtype="float64")
    others: list[np.ndarray | None] = []
    for path in (pair.enhanced, pair.noisy):
        if path is None:
            others.append(None)
            continue
        wave, rate = audio.read_mono(path, dtype="float64")
        if rate != sample_rate:
            raise InputError(
                f"{path}: is at {rate} Hz, {pair.clean.name} at {sample_rate} Hz: resample one of"
                " them"
            )
        if len(wave) != len(clean):
            raise InputError(
                f"{path}: has {len(wave)} samples, {pair.clean.name} has {len(clean)}: align them"
                " first"
            )
        others.append(wave)
    if pair.high_pass:
        clean = high_pass(clean, sample_rate)
    enhanced, noisy = others
    assert enhanced is not None  # since its path is none
    return Signals(clean, enhanced, noisy, sample_rate, pair.text)


def identity(pairs: Sequence[Pair], metrics: Iterable[str], *, jobs: int = 1) -> str:
    """A digest of everything that the scores of these pairs depend on.

    That is the content of the files, the texts, and the metrics.
    """
    kinds = ("clean", "enhanced", "noisy")
    files = {
        (pair.utt_id, kind): file
        for pair in pairs
        for kind in kinds
        if (file := getattr(pair, kind))
    }
    digests = file_digests(files, jobs=jobs)
    texts = [[pair.utt_id, "text", pair.text] for pair in pairs if pair.text is not None]
    listed = sorted(texts + [[*key, value] for key, value in digests.items()])
    return made_from("scores", list(metrics), listed)


def write_csv(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Write rows as CSV, atomically; numbers with 6 decimals, reasons in columns at the end."""
    columns = list(
        dict.fromkeys(column for row in rows for column in row if not column.endswith("_reason"))
    )
    columns += [f"{column}_reason" for column in columns if column in ALL]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: f"{value:.{DECIMALS}f}" if isinstance(value, float) else value
                for key, value in row.items()
            }
        )
    write_atomically(path, text.getvalue())


def read_csv(path: str | Path) -> list[Row]:
    """Read rows that `write_csv` wrote: metrics as float, or None where empty.

    Raises InputError.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: run stage 4 first") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: is not a table of scores ({error}): run stage 4 again"
        ) from error
    if not rows or "utt_id" not in rows[0]:
        raise InputError(f"{path}: holds no scores: run stage 4 again")
    for row in rows:
        for name in ALL.keys() & row.keys():
            row[name] = _score(row[name], f"{path}: {row['utt_id']}: {name}")
    return rows


def _score(text: str, where: str) -> float | None:
    try:
        value = float(text) if text else None
    except (TypeError, ValueError):
        value = float("nan")
    if value is not None and not np.isfinite(value):
        raise InputError(f"{where}: is not a score: {text!r}: run stage 4 again")
    return value


def alignment_of(pairs: Sequence[Pair], *, jobs: int) -> alignment.Judgement:
    """Whether the enhanced files lie where the clean ones do, of those pairs that have both."""
    files = {pair.utt_id: (pair.clean, pair.enhanced) for pair in pairs}
    there = {key: (a, b) for key, (a, b) in files.items() if a is not None and b is not None}
    return alignment.judge(alignment.match_files(there, jobs=jobs), alike=False)


def swapped(pairs: Sequence[Pair], *, looked_at: int = 8) -> bool:
    """Whether clean and enhanced look exchanged.

    They do if, in the pauses of nearly all of the first pairs, "clean" is louder by 6 dB.
    """
    louder = []
    for pair in pairs[:looked_at]:
        try:
            signals = _read(pair)
        except InputError:
            continue
        louder.append(
            pause_depth_db(signals.clean, signals.sample_rate)
            < pause_depth_db(signals.enhanced, signals.sample_rate) - 6.0
        )
    return bool(louder) and float(np.mean(louder)) > 0.8
