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
from gan_denoise.system.ids import is_line, is_path, is_word, utt_id_of_file
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
            reader = csv.reader(file)
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    (_, columns), *rows = lines or [(0, [])]
    fits = "clean" in columns and set(columns) <= set(_COLUMNS)
    if not fits or len(set(columns)) < len(columns):
        raise InputError(
            f"{path}: expected a table with the columns clean and, as far as known,"
            f" {', '.join(_COLUMNS[1:])}, found {', '.join(columns) or 'nothing'}"
        )
    for number, fields in rows:
        if len(fields) != len(columns):
            raise InputError(
                f"{path}:{number}",
                f"has {len(fields)} fields, and the table {len(columns)} columns"
                f" ({', '.join(columns)})",
                "give each column a field, and put a text that holds commas in quotes",
            )
    return [_row(path, number, dict(zip(columns, fields, strict=True))) for number, fields in rows]


def _row(path: Path, number: int, row: dict[str, str]) -> Recording:
    for kind in ("clean", "noisy"):
        if (kind == "clean" or kind in row) and not row[kind]:
            raise InputError(f"{path}:{number}: names no {kind} file")
    clean, noisy = (
        path.parent / row[kind] if row.get(kind) else None for kind in ("clean", "noisy")
    )
    assert clean is not None
    utt_id = row.get("utt_id") or utt_id_of_file(clean)
    speaker = row.get("speaker") or utt_id
    split = split_named(row["split"]) if row.get("split") else None
    if row.get("split") and not split:
        words = ", ".join(SPLIT_WORDS)
        raise InputError(
            f"{path}:{number}", f"its split is called {row['split']!r}", f"call it one of {words}"
        )
    text = " ".join((row.get("text") or "").split()) or None  # of one line, as Kaldi's is
    _check_names(f"{path}:{number}", utt_id, speaker, f"{text}{clean}{noisy}")
    return Recording(utt_id, speaker, clean, noisy, text, split=split)


def _check_names(where: str, utt_id: str, speaker: str, others: str) -> None:
    """Raises InputError for names that no table, and no file, can have."""
    if not is_line(others):
        raise InputError(where, "holds a control character", "rename the file, or correct the text")
    for what, name in (("utt_id", utt_id), ("speaker", speaker)):
        if not is_word(name):
            raise InputError(
                where,
                f"the {what} {name!r} holds blanks or control characters",
                f"write another one in the column {what}",
            )
    if is_path(utt_id):
        raise InputError(where, f"{utt_id}: an utt_id may not be a path", "rename it")


def read_scp_of_pairs(path: Path) -> list[Recording]:
    """The speaker is what stands before the first `_` of an utt_id. Raises InputError."""
    recordings = []
    for utt_id, (number, value) in datadir.read_numbered(path).items():
        where = f"{path}:{number}"
        files = [path.parent / name for name in value.split()]
        if len(files) != 2:
            problem = f"{utt_id}: expected a clean and a noisy file, found {value}"
            raise InputError(where, problem)
        _check_names(where, utt_id, utt_id, value)
        recordings.append(Recording(utt_id, utt_id.split("_")[0], files[0], noisy=files[1]))
    return recordings
