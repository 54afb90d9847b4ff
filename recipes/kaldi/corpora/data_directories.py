"""Kaldi data directories as a corpus: a folder with wav.scp and utt2spk, or one for each split.

noisy.scp and text are read where they are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from gan_denoise import datadir
from gan_denoise.errors import InputError
from kaldi.corpora.listing import Listing, Recording, split_named, those_there

_TABLES = ("utt2spk", "spk2utt", "utt2dur", "text", "spk2gender", "segments")


def read(folder: Path, speakers: Collection[str]) -> Listing | None:
    folders = kaldi_folders(folder) if folder.is_dir() else []
    if not folders:
        return None
    return Listing("Kaldi", *those_there(list(read_kaldi(folders))), _serves)


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
