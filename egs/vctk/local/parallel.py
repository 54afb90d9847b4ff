"""Corpora that bring their noisy recordings, and lists of recordings that somebody has written.

pairs of folders   clean*/..., noisy*/... with equal names, as VoiceBank+DEMAND has; or clean/ and
                   noisy/ in a folder of each split, train/{clean,noisy} and test/{clean,noisy}
fileid             the same with names of the DNS challenge: clean_fileid_7.wav and ..._fileid_7.wav
CSV                a file with the columns clean, and as far as they are known noisy, utt_id,
                   speaker, split and text
scp of pairs       a file with lines `utt_id clean.wav noisy.wav`
Kaldi              a folder with wav.scp and utt2spk, or one of these for each split; noisy.scp and
                   text where they are there

Names of splits: test, dev or valid; whatever else is for training.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from gan_denoise import audio, datadir
from gan_denoise.errors import InputError
from gan_denoise.ids import utt_id_in_folder, utt_id_of_file
from recording import Recording

_COLUMNS = ("clean", "noisy", "utt_id", "speaker", "split", "text")
_FILEID = re.compile(r"fileid_(\d+)$")
_READER = re.compile(r"(?:^|_)(reader_\d+)(?:_|$)")  # in the DNS challenge's names


def split_named(name: str) -> str | None:
    """The split that a folder's name tells, or a word for it; None: for training."""
    word = name.casefold()
    if "test" in word:
        return "test"
    return "dev" if "dev" in word or "valid" in word else None


def folders_of_pairs(folder: Path) -> list[tuple[Path, Path, str | None]]:
    """The clean and noisy folders of a parallel corpus with the split that they are."""
    pairs = []
    for clean in sorted(path for path in folder.glob("clean*") if path.is_dir()):
        noisy = folder / clean.name.replace("clean", "noisy", 1)
        if noisy.is_dir():
            pairs.append((clean, noisy, split_named(clean.name)))
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (part / "clean").is_dir() and (part / "noisy").is_dir():
            pairs.append((part / "clean", part / "noisy", split_named(part.name)))
    return pairs


def read_pairs(
    pairs: list[tuple[Path, Path, str | None]],
) -> tuple[list[Recording], list[str]]:
    """Speakers are folders, or else what stands before the first `_` of a name (p226_001.wav), or
    the reader whom a name of the DNS challenge tells. Also what has no counterpart, a line each.
    """
    recordings: list[Recording] = []
    missing: list[str] = []
    for clean_folder, noisy_folder, split in pairs:
        noisy = {_name(path, noisy_folder): path for path in audio.find(noisy_folder)}
        by_fileid = {found[1]: path for path in noisy.values() if (found := _fileid(path))}
        left = set(noisy.values())
        for clean in audio.find(clean_folder):
            relative = clean.relative_to(clean_folder)
            found = _fileid(clean)
            partner = noisy.get(_name(clean, clean_folder)) or (
                by_fileid.get(found[1]) if found else None
            )
            if partner is None:
                missing.append(f"{clean}: has no counterpart {noisy_folder / relative}")
                continue
            left.discard(partner)
            if len(relative.parts) > 1:
                speaker = relative.parts[0]
                utt_id = utt_id_in_folder(clean, clean_folder / speaker)
            else:
                utt_id = utt_id_of_file(clean)
                speaker = utt_id.split("_")[0]
                if found:
                    reader = _READER.search(partner.stem)
                    speaker = reader[1] if reader else utt_id
            recordings.append(Recording(utt_id, speaker, clean, noisy=partner, split=split))
        missing += [f"{path}: has no clean counterpart" for path in sorted(left)]
    return recordings, missing


def _name(path: Path, folder: Path) -> str:
    """Of a recording in its folder, an accent always one character: file systems differ in that."""
    return unicodedata.normalize("NFC", str(path.relative_to(folder)))


def _fileid(path: Path) -> re.Match | None:
    return _FILEID.search(path.stem)


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
    text = row.get("text") or None
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


def kaldi_folders(folder: Path) -> list[tuple[Path, str | None]]:
    """Kaldi data directories here, with the split that they are."""
    if (folder / "wav.scp").is_file():
        return [(folder, None)]
    below = sorted(path.parent for path in folder.glob("*/wav.scp"))
    return [(path, split_named(path.name)) for path in below]


def read_kaldi(folders: list[tuple[Path, str | None]]) -> Iterator[Recording]:
    """Raises InputError."""
    for folder, split in folders:
        wav = datadir.read_scp(folder / "wav.scp")
        tables = {
            name: datadir.read_table(folder / name) if (folder / name).is_file() else {}
            for name in ("utt2spk", "text", "noisy.scp")
        }
        if lacking := sorted(wav.keys() - tables["utt2spk"].keys()):
            raise InputError(f"{folder / 'utt2spk'}: does not name the speaker of {lacking[0]}")
        for utt_id, clean in wav.items():
            noisy = tables["noisy.scp"].get(utt_id)
            yield Recording(
                utt_id,
                tables["utt2spk"][utt_id],
                clean,
                noisy=Path(noisy) if noisy else None,
                text=tables["text"].get(utt_id),
                split=split,
            )
