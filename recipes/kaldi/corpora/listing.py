"""What a corpus lists: its recordings, what it lacks, and what of it is not used."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from gan_denoise import audio
from gan_denoise.datadir import SPLITS
from gan_denoise.errors import InputError
from gan_denoise.system.ids import one_form

EVAL = "eval"
SPLIT_WORDS = {
    word: split
    for split, words in {
        "train": "train training tr validated",
        "dev": "dev devel development val valid validation cv",
        "test": "test testing tt",
        EVAL: "eval evaluation",
    }.items()
    for word in words.split()
}


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus.

    noisy: only in a parallel corpus. shared: whether its sentence is read by every speaker. split:
    where the corpus itself names one.
    """

    utt_id: str
    speaker: str
    clean: Path
    noisy: Path | None = None
    text: str | None = None
    shared: bool = False
    split: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "utt_id", one_form(self.utt_id))
        object.__setattr__(self, "speaker", one_form(self.speaker))


class Lack(NamedTuple):
    """A file that cannot be used, or is not there, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Listing:
    """What a corpus of a layout holds.

    recordings: sorted by utt_id once `corpora.read` has looked at them. serves: whether a file that
    is no recording has a use in this layout. unused: the files that have no use, by kind. notes:
    what else is to be said of it, a line each.
    """

    layout: str
    recordings: list[Recording]
    lacks: list[Lack]
    serves: Callable[[Path], bool] = lambda path: False
    unused: Mapping[str, list[Path]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def brings_noise(self) -> bool:
        return self.recordings[0].noisy is not None


def split_named(name: str) -> str | None:
    """The split that one word of a name tells: train, dev, test, or eval, which may be either.

    Words end where there are no letters, or a capital follows a small one. Of several splits test
    counts before dev, and dev before train: train_dev is held out.
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    told = {SPLIT_WORDS.get(word.casefold().removesuffix("set")) for word in words}
    return next((split for split in (EVAL, *SPLITS[::-1]) if split in told), None)


def without_eval(folder: Path, recordings: list[Recording]) -> list[Recording]:
    """The same, where eval has become test beside a dev, and dev beside a test.

    Raises InputError where there is neither.
    """
    splits = {recording.split for recording in recordings}
    if EVAL not in splits:
        return recordings
    if not splits & {"dev", "test"}:
        raise InputError(
            folder, "calls a split eval, and none dev or test: which is it?", "call it dev or test"
        )
    meant = "test" if "dev" in splits else "dev"
    return [replace(one, split=meant) if one.split == EVAL else one for one in recordings]


def begins_with(path: Path, name: str) -> bool:
    """Whether a recording's own name begins with that of its speaker."""
    return re.match(re.escape(name) + r"[-_. ]", path.name) is not None


def those_there(recordings: list[Recording]) -> tuple[list[Recording], list[Lack]]:
    """Those of a list whose files are there, and what the others lack."""
    gone = {
        recording.utt_id: Lack(path, "is listed, but is not there")
        for recording in recordings
        for path in (recording.noisy, recording.clean)
        if path is not None and not path.is_file()
    }
    there = [recording for recording in recordings if recording.utt_id not in gone]
    return there, list(gone.values())


def unused(
    folder: Path, used: Collection[Path], serves: Callable[[Path], bool]
) -> dict[str, list[Path]]:
    """What lies in a corpus and is no recording of it, by kind.

    The kinds are dangling links, folders that cannot be read or are links to others, and files by
    their suffix. serves: whether a file has another use in this layout.
    """
    kinds: dict[str, list[Path]] = {}
    seen: set[str] = set()

    def cannot_be_read(error: OSError) -> None:
        kinds.setdefault("folders that cannot be read", []).append(Path(error.filename))

    for place, folders, names in os.walk(folder, followlinks=True, onerror=cannot_be_read):
        if (real := os.path.realpath(place)) in seen:
            kinds.setdefault("links to folders that are read already", []).append(Path(place))
            folders.clear()
            continue
        seen.add(real)
        folders[:] = audio.in_order(place, folders)
        for name in sorted(names):
            path = Path(place) / name
            if name.startswith(".") or path in used or serves(path):
                continue
            kind = "links to nothing" if not path.exists() else f"{path.suffix or name} files"
            kinds.setdefault(kind, []).append(path)
    return kinds
