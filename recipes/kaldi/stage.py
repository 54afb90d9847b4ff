"""The loop of every stage that makes a file of each recording.

It finds which files are due, makes these in worker processes, notes what each was made from, and
lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gan_denoise import datadir
from gan_denoise.datadir import DataDir
from gan_denoise.errors import InputError
from gan_denoise.provenance.inputs import Provenance, file_digests, made_from
from gan_denoise.system import workers
from gan_denoise.system.terminal import progress
from gan_denoise.system.workers import Outcome
from kaldi.options import Part


@dataclass(frozen=True)
class Making:
    """What a stage makes of the recordings of a data directory.

    sources: tables utt_id -> file, of what goes into each. files: utt_id -> the file to make, in
    the order of data.utt_ids. table: NAME.made. rests_on: what else decides what the files hold,
    JSON values. notes: words that the table keeps of each.
    """

    data: DataDir
    sources: tuple[Mapping[str, Path], ...]
    files: Mapping[str, Path]
    table: Path
    rests_on: tuple[Any, ...]
    notes: tuple[str, ...] = ()


class Piece(NamedTuple):
    """The work on one recording: make `file` of `sources`."""

    utt_id: str
    sources: tuple[Path, ...]
    file: Path
    duration_s: float


class Done(NamedTuple):
    """What `make` has made. renewed: how many of them had other notes before."""

    utt_ids: list[str]
    duration_s: float
    renewed: int


def make(
    making: Making, work: Callable[[Piece], None], *, label: str, jobs: int, part: Part
) -> Done:
    """Call work(piece) for what is missing of a part, or was made from something else.

    Raises InputError where a recording fails, after doing the others.
    """
    utt_ids = part.of(list(making.files))
    files = {utt_id: making.files[utt_id] for utt_id in utt_ids}
    digests = [
        file_digests({utt_id: table[utt_id] for utt_id in utt_ids}, jobs=jobs)
        for table in making.sources
    ]
    rests_on = {
        utt_id: made_from(*making.rests_on, *(table[utt_id] for table in digests))
        for utt_id in utt_ids
    }
    table = Provenance(making.table, str(part))
    due = table.due(rests_on, file_digests(files, jobs=jobs))
    renewed = sum(
        utt_id in table.made and table.made[utt_id].more != making.notes for utt_id in due
    )
    durations = making.data.utt2dur
    pieces = [
        Piece(
            utt_id,
            tuple(source[utt_id] for source in making.sources),
            files[utt_id],
            durations[utt_id],
        )
        for utt_id in due
    ]
    reasons = []
    for outcome in outcomes(work, pieces, label=label, jobs=jobs):
        piece: Piece = outcome.item
        if outcome.error is None:
            table.add(piece.utt_id, rests_on[piece.utt_id], piece.file, *making.notes)
        else:
            reasons.append(outcome.error.at(*piece.sources, piece.file))
    if reasons:
        raise InputError(
            f"{label}: {len(reasons)} of {len(pieces)} recordings failed, the first: {reasons[0]}"
        )
    if not part and (due or table.scattered):
        table.keep(files)
    return Done(due, sum(piece.duration_s for piece in pieces), renewed)


def outcomes(
    work: Callable[[Any], Any], items: Sequence[Any], *, label: str, jobs: int
) -> Iterator[Outcome]:
    """What becomes of each item, in worker processes, with progress."""
    return progress(workers.each(work, items, jobs=jobs), total=len(items), label=label)


def list_files(scp: Path, files: Mapping[str, Path]) -> bool:
    """Write NAME.scp where it does not list these already; returns whether it did not."""
    if scp.is_file() and datadir.read_scp(scp) == files:
        return False
    datadir.write_table(scp, files)
    return True
