"""Kaldi data directories as a corpus: a folder with wav.scp and utt2spk, or one for each split.

noisy.scp and text are read where they are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from gan_denoise import datadir
from gan_denoise.errors import InputError
from kaldi.corpora.listing import Listing, Recording, split_named, those_there

_TABLES = ("utt2spk", "spk2utt", "utt2dur", "text", "spk2gender")
_READ = ("utt2spk", "text", "noisy.scp")


def read(folder: Path, speakers: Collection[str]) -> Listing | None:
    folders = kaldi_folders(folder) if folder.is_dir() else []
    if not folders:
        return None
    recordings = list(read_kaldi(folders))
    return Listing("Kaldi", *those_there(recordings), _serves, notes=tuple(_left(folders)))


def _serves(path: Path) -> bool:
    return path.suffix == ".scp" or path.name in _TABLES


def kaldi_folders(folder: Path) -> list[tuple[Path, str | None]]:
    """Kaldi data directories here, with the split that they are."""
    if (folder / "wav.scp").is_file():
        return [(folder, None)]
    below = sorted(path.parent for path in folder.glob("*/wav.scp"))
    return [(path, split_named(path.name)) for path in below]


def read_kaldi(folders: list[tuple[Path, str | None]]) -> Iterator[Recording]:
    """Raises InputError."""
    for folder, split in folders:
        if (folder / "segments").is_file():
            raise InputError(
                folder / "segments",
                "the recordings of wav.scp would be used whole, and not these segments of them",
                "cut them first, as Kaldi's extract-segments does, and remove this file",
            )
        wav = datadir.read_scp(folder / "wav.scp")
        tables = {name: _table(folder / name) for name in _READ}
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


def _table(path: Path) -> dict[str, str]:
    return datadir.read_table(path) if path.is_file() else {}


def _left(folders: list[tuple[Path, str | None]]) -> Iterator[str]:
    """A line for each table that tells of recordings which are not in wav.scp."""
    for folder, _ in folders:
        wav = datadir.read_scp(folder / "wav.scp")
        for name in _READ:
            if left := sorted(_table(folder / name).keys() - wav.keys()):
                yield f"{folder / name}: {len(left)} lines of no recording, such as {left[0]}"
