"""Lists of recordings that somebody has written.

CSV                a file with the columns clean, and as far as they are known noisy, utt_id,
                   speaker, split and text
scp of pairs       a file with lines `utt_id clean.wav noisy.wav`
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from gan_denoise import datadir
from gan_denoise.errors import InputError
from gan_denoise.system.ids import utt_id_of_file
from kaldi.corpora.listing import SPLIT_WORDS, Listing, Recording, split_named, those_there

_COLUMNS = ("clean", "noisy", "utt_id", "speaker", "split", "text")


def read(path: Path, speakers: Collection[str]) -> Listing | None:
    """Raises InputError for what is no such table."""
    readers = {".csv": read_csv, ".scp": read_scp_of_pairs}
    if not path.is_file() or path.suffix not in readers:
        return None
    return Listing("listed", *those_there(readers[path.suffix](path)))


def read_csv(path: Path) -> list[Recording]:
    """Raises InputError for what is no such table."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    columns = set(rows[0]) if rows else set()
    if "clean" not in columns or columns - set(_COLUMNS):
        raise InputError(
            f"{path}: expected a table with the columns clean and, as far as known,"
            f" {', '.join(_COLUMNS[1:])}, found {', '.join(map(str, columns)) or 'nothing'}"
        )
    return [_row(path, number, row) for number, row in enumerate(rows, start=2)]


def _row(path: Path, number: int, row: dict[str, str]) -> Recording:
    for kind in ("clean", "noisy"):
        if (kind == "clean" or kind in row) and not row[kind]:
            raise InputError(f"{path}:{number}: names no {kind} file")
    clean, noisy = (
        path.parent / row[kind] if row.get(kind) else None for kind in ("clean", "noisy")
    )
    assert clean is not None
    utt_id = row.get("utt_id") or utt_id_of_file(clean)
    split = split_named(row["split"]) if row.get("split") else None
    if row.get("split") and not split:
        known = ", ".join(SPLIT_WORDS)
        raise InputError(
            f"{path}:{number}", f"its split is called {row['split']!r}", f"call it one of {known}"
        )
    text = " ".join((row.get("text") or "").split()) or None  # of one line, as Kaldi's is
    return Recording(utt_id, row.get("speaker") or utt_id, clean, noisy, text, split=split)


def read_scp_of_pairs(path: Path) -> list[Recording]:
    """The speaker is what stands before the first `_` of an utt_id. Raises InputError."""
    recordings = []
    for utt_id, value in datadir.read_table(path).items():
        files = [path.parent / name for name in value.split()]
        if len(files) != 2:
            raise InputError(f"{path}: {utt_id}: expected a clean and a noisy file, found {value}")
        recordings.append(Recording(utt_id, utt_id.split("_")[0], files[0], noisy=files[1]))
    return recordings
