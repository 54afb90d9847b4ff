"""A folder for each speaker: SPEAKER/**/*.{wav,flac,ogg,mp3}.

A speaker's folder holds recordings itself, or they begin with its name (as in a set of LibriSpeech,
1034/121119/1034-121119-0005.flac).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from gan_denoise import audio
from gan_denoise.errors import InputError
from gan_denoise.system.ids import one_form, utt_id_in_folder
from kaldi.corpora.listing import Lack, Listing, Recording, begins_with
from kaldi.corpora.vctk import VERSIONS

_KIND = re.compile("clean|noisy", re.IGNORECASE)


def read(folder: Path, speakers: Collection[str]) -> Listing:
    """Raises InputError where its folders do not seem to be those of speakers."""
    loose = [
        Lack(path, "lies outside the speakers' folders")
        for path in audio.find(folder)
        if path.parent == folder
    ]
    recordings = list(_plain(folder))
    _refuse_pairs(folder, recordings, speakers)
    _check_speakers(folder, recordings, speakers)
    return Listing("plain", recordings, loose)


def _plain(folder: Path) -> Iterator[Recording]:
    for path in audio.find(folder):
        if path.parent != folder:
            speaker = folder / path.relative_to(folder).parts[0]
            yield Recording(utt_id_in_folder(path, speaker), speaker.name, path)


def _check_speakers(folder: Path, recordings: list[Recording], people: Collection[str]) -> None:
    """Refuse folders that are sets (train/s01/...), or the sessions of one speaker.

    Their names would be taken for speakers.
    """
    by_folder: dict[str, list[Path]] = {}
    for recording in recordings:
        name = recording.clean.relative_to(folder).parts[0]
        by_folder.setdefault(name, []).append(recording.clean)
    for name, files in by_folder.items():
        if one_form(name) in people or any(path.parent == folder / name for path in files):
            continue
        if not all(begins_with(path, name) for path in files):
            raise InputError(
                f"{folder / name}: holds recordings only in its sub-folders: is it a set, as train"
                " in train/s01/1.wav? then name the folder of the speakers' folders, such as"
                f" --corpus {_deeper(folder, files)}; if {name} is a speaker, say so by --split"
            )
    everything = [path for files in by_folder.values() for path in files]
    if (
        len(by_folder) > 1
        and everything
        and all(begins_with(path, folder.resolve().name) for path in everything)
    ):
        raise InputError(
            f"{folder}: all its recordings begin with {folder.resolve().name}, as if it were one"
            f" speaker's: name the folder above it, --corpus {folder.resolve().parent}"
        )


def _deeper(folder: Path, files: list[Path]) -> Path:
    """The folder that holds the speakers' folders, for recordings that lie further down.

    It is VCTK's, or one level below `folder`.
    """
    for path in files[0].parents:
        if path.name in [audio_name for _, audio_name, _ in VERSIONS]:
            return path.parent
    return folder / files[0].relative_to(folder).parts[0]


def _refuse_pairs(folder: Path, recordings: list[Recording], people: Collection[str]) -> None:
    """Refuse clean and noisy recordings beside each other, which parallel.py has not recognised.

    Their noisy files would be taken for clean speech. They are known by speakers of whom some are
    called clean and some noisy, and by files that are called alike but for these words.
    """
    called: dict[str, Path] = {}
    alike: dict[tuple[str, ...], dict[str, Path]] = {}
    for recording in recordings:
        parts = recording.clean.relative_to(folder).parts
        if (kind := _KIND.search(parts[0])) and one_form(parts[0]) not in people:
            called.setdefault(kind[0].casefold(), folder / parts[0])
        if kind := _KIND.search(str(Path(*parts))):
            *folders, name = (part.casefold() for part in (*parts[:-1], recording.clean.stem))
            key = (*("" if _KIND.search(part) else part for part in folders), _KIND.sub("", name))
            alike.setdefault(key, {}).setdefault(kind[0].casefold(), recording.clean)
    for kinds in (called, *alike.values()):
        if len(kinds) > 1:
            raise InputError(
                kinds["noisy"],
                f"seems to be the noisy counterpart of {kinds['clean']}, and would be taken for"
                " clean speech",
                "give their folders names that differ by clean and noisy alone, or list the pairs"
                " in a CSV file",
            )
