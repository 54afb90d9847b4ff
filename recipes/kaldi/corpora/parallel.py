"""Clean and noisy recordings side by side.

pairs of folders   with equal names in them, and names that differ by clean and noisy alone:
                   clean_testset_wav/ and noisy_testset_wav/, as VoiceBank+DEMAND has, test_clean/
                   and test_noisy/; or in a folder for each split, train/{clean,noisy}, or for each
                   speaker, p226/{clean,noisy}
fileid             the same with names of the DNS challenge: clean_fileid_7.wav and ..._fileid_7.wav
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from gan_denoise import audio
from gan_denoise.errors import InputError
from gan_denoise.system.ids import one_form, utt_id_in_folder, utt_id_of_file
from kaldi.corpora.listing import Lack, Listing, Recording, begins_with, split_named

_KIND = re.compile("clean|noisy", re.IGNORECASE)
_FILEID = re.compile(r"fileid_(\d+)$")
_READER = re.compile(r"(?:^|_)(reader_\d+)(?:_|$)")  # in the DNS challenge's names


@dataclass(frozen=True)
class Folders:
    """A folder of clean recordings and that of their noisy counterparts.

    split, speaker: where the name of one of these folders, or of the folder around them, tells it.
    """

    clean: Path
    noisy: Path
    split: str | None = None
    speaker: str | None = None


def read(folder: Path, speakers: Collection[str]) -> Listing | None:
    """Raises InputError where folders may be of sets or of speakers."""
    pairs = folders_of_pairs(folder, speakers) if folder.is_dir() else []
    if not pairs:
        return None
    named = sorted({pair.speaker for pair in pairs if pair.speaker})
    notes = [f"{len(named)} speakers are called as folders are, such as {name}" for name in named]
    return Listing("parallel", *read_pairs(pairs), notes=tuple(notes[:1]))


def folders_of_pairs(folder: Path, people: Collection[str] = ()) -> list[Folders]:
    """The clean and noisy folders of a parallel corpus.

    A folder around such a pair is a speaker's, unless its name tells a split. people: names that
    are certainly those of speakers. Raises InputError.
    """
    pairs = [Folders(clean, noisy, split_named(_rest(clean))) for clean, noisy in _siblings(folder)]
    of_pairs = {path for pair in pairs for path in (pair.clean, pair.noisy)}
    for part in _folders(folder):
        if part in of_pairs:
            continue
        name = one_form(part.name)
        for clean, noisy in _siblings(part):
            split = None if name in people else split_named(name) or split_named(_rest(clean))
            pair = Folders(clean, noisy, split, None if split else name)
            pairs.append(replace(pair, speaker=_speaker_around(pair, people)))
    if len(pairs) == 1:  # of several speakers, then, or it would be no corpus
        return [replace(pairs[0], speaker=None)]
    return _told_apart(pairs)


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and path.name[0] != ".")


def _siblings(place: Path) -> list[tuple[Path, Path]]:
    """Pairs of folders there whose names differ by clean and noisy alone, in any case."""
    kinds: dict[str, dict[tuple[str, str], list[Path]]] = {"clean": {}, "noisy": {}}
    for path in _folders(place):
        for word in _KIND.finditer(path.name):
            around = path.name[: word.start()].casefold(), path.name[word.end() :].casefold()
            kinds[word[0].casefold()].setdefault(around, []).append(path)
    pairs = []
    for around, clean in kinds["clean"].items():
        noisy = kinds["noisy"].get(around, [])
        if noisy and len(clean + noisy) > 2:
            names = ", ".join(path.name for path in clean + noisy)
            raise InputError(place, f"which of {names} belong together?", "rename or remove one")
        if noisy:
            pairs.append((clean[0], noisy[0]))
    return pairs


def _rest(folder: Path) -> str:
    """What the name of a clean folder says beside that."""
    return re.sub(r"^[\W_]+|[\W_]+$", "", _KIND.sub("_", one_form(folder.name)))


def _speaker_around(pair: Folders, people: Collection[str]) -> str | None:
    """The speaker after whom the folder around a pair is called.

    It may be a set, though, and folders in it the speakers'. Raises InputError where that is not
    clear.
    """
    files = audio.find(pair.clean)
    deeper = [path for path in files if path.parent != pair.clean]
    if not pair.speaker or pair.speaker in people:
        return pair.speaker
    if all(map(_fileid, files)):
        return None
    if not deeper:
        return pair.speaker
    if all(begins_with(path, path.relative_to(pair.clean).parts[0]) for path in deeper):
        return None
    if all(begins_with(path, pair.speaker) for path in deeper):
        return pair.speaker
    around = pair.clean.parent
    raise InputError(
        around,
        f"may be a speaker, or a set with speakers such as {deeper[0].relative_to(pair.clean)}",
        f"say so by --split if it is a speaker; if it is a set, name it alone: --corpus {around}",
    )


def _told_apart(pairs: list[Folders]) -> list[Folders]:
    """The same, with the speakers of anna_clean/take_1.wav and bob_clean/take_2.wav.

    What is beside `clean` in their names is taken for the speaker only where the names of the files
    do not tell: in both folders they begin alike.
    """
    open_ = [pair for pair in pairs if not (pair.split or pair.speaker) and _rest(pair.clean)]
    beginnings = Counter(
        start
        for pair in open_
        for start in {_beginning(path) for path in audio.find(pair.clean) if not _fileid(path)}
    )
    if not beginnings or max(beginnings.values()) < 2:
        return pairs
    return [replace(pair, speaker=_rest(pair.clean)) if pair in open_ else pair for pair in pairs]


def _beginning(path: Path) -> str:
    return utt_id_of_file(path).split("_")[0]


def read_pairs(pairs: list[Folders]) -> tuple[list[Recording], list[Lack]]:
    """The recordings of pairs of folders, and the files that have no counterpart."""
    recordings: list[Recording] = []
    lacks: list[Lack] = []
    for pair in pairs:
        noisy = {
            one_form(str(path.relative_to(pair.noisy))): path for path in audio.find(pair.noisy)
        }
        by_fileid = {
            fileid: path for path in noisy.values() if (fileid := _fileid(path)) is not None
        }
        left = set(noisy.values())
        for clean in audio.find(pair.clean):
            relative = clean.relative_to(pair.clean)
            fileid = _fileid(clean)
            partner = noisy.get(one_form(str(relative))) or (
                by_fileid.get(fileid) if fileid else None
            )
            if partner is None:
                lacks.append(Lack(clean, f"has no counterpart {pair.noisy / relative}"))
                continue
            left.discard(partner)
            utt_id, speaker = _names(pair, clean, partner)
            recordings.append(Recording(utt_id, speaker, clean, noisy=partner, split=pair.split))
        lacks += [Lack(path, "has no clean counterpart") for path in sorted(left)]
    return recordings, lacks


def _names(pair: Folders, clean: Path, noisy: Path) -> tuple[str, str]:
    """utt_id and speaker of a recording.

    The speaker is whom the folders' names tell, or the sub-folder's name. Without these it is what
    stands before the first `_` of a name (p226_001.wav), or the reader whom a name of the DNS
    challenge tells.
    """
    relative = clean.relative_to(pair.clean)
    if len(relative.parts) > 1 and not pair.speaker:
        speaker = relative.parts[0]
        return utt_id_in_folder(clean, pair.clean / speaker), speaker
    if _fileid(clean):
        reader = _READER.search(noisy.stem)
        utt_id = utt_id_of_file(clean)
        return utt_id, reader[1] if reader else utt_id
    if pair.speaker:
        return utt_id_in_folder(clean, Path(pair.speaker)), pair.speaker
    return utt_id_of_file(clean), _beginning(clean)


def _fileid(path: Path) -> str | None:
    match = _FILEID.search(path.stem)
    return match[1] if match else None
