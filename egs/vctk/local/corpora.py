"""The corpora that the recipe knows, recognised by what is there: each lists its recordings as
`Recording`s.

VCTK 0.92       wav48_silence_trimmed/p225/p225_001_mic1.flac, txt/p225/p225_001.txt
                (the mini corpus too)
VCTK 0.80       wav48/p225/p225_001.wav, txt/p225/p225_001.txt
parallel        clean*/..., noisy*/... with equal names, as VoiceBank+DEMAND
plain           SPEAKER/**/*.{wav,flac}: a speaker's folder holds recordings itself, or they begin
                with its name (as in a set of LibriSpeech, 1034/121119/1034-121119-0005.flac)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from gan_denoise import audio
from gan_denoise.errors import InputError
from gan_denoise.ids import utt_id_in_folder, utt_id_of_file

_SHARED_BY_ALL = 24  # VCTK's sentences 001 to 024 are read by every speaker
_SUFFIXES = (".wav", ".flac")
MINI = "mini-corpus.txt"  # by which the mini corpus is known, wherever it lies


@dataclass(frozen=True)
class Recording:
    """One recording of a corpus. noisy: only in a parallel corpus. shared: its sentence is read by
    every speaker.
    """

    utt_id: str
    speaker: str
    clean: Path
    noisy: Path | None = None
    text: str | None = None
    shared: bool = False
    split: str | None = None  # where the corpus itself says so


@dataclass(frozen=True)
class Corpus:
    """recordings: sorted by utt_id. missing: what the corpus lists but does not have, one line
    each.
    """

    layout: str
    recordings: list[Recording]
    missing: list[str]


VCTK = (
    ("VCTK 0.92", "wav48_silence_trimmed", "VCTK-Corpus-0.92"),
    ("VCTK 0.80", "wav48", "VCTK-Corpus"),
)


def read(folder: Path, *, known_speakers: Collection[str] = ()) -> Corpus:
    """Recognise and list a corpus. known_speakers: names that are certainly speakers' (of a split
    file).

    Raises InputError where there is none, where two recordings share an utt_id, and where its
    folders do not seem to be those of speakers.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such corpus folder: check --corpus")
    for layout, audio_name, archive in VCTK:
        for root in (
            folder,
            folder / archive,
            *([folder.parent] if folder.name == audio_name else []),
        ):
            if (root / audio_name).is_dir():
                return _checked(layout, folder, *_vctk(root, root / audio_name))
    pairs = _clean_and_noisy(folder)
    if pairs:
        return _checked("parallel", folder, *_parallel(folder, pairs))
    unused = [
        f"{path}: lies outside the speakers' folders"
        for path in _files(folder)
        if path.parent == folder
    ]
    unused += [
        f"{path}: is neither WAV nor FLAC"
        for path in audio.find(folder)
        if path.suffix.lower() not in _SUFFIXES
    ]
    recordings = list(_plain(folder))
    _check_speakers(folder, recordings, known_speakers)
    return _checked("plain", folder, recordings, unused)


def _checked(layout: str, folder: Path, recordings: list[Recording], missing: list[str]) -> Corpus:
    if not recordings:
        raise InputError(
            f"{folder}: no recordings found: --corpus wants VCTK (wav48_silence_trimmed/ or"
            " wav48/), clean*/ and noisy*/ folders, or one folder per speaker with .wav or .flac"
            " files"
        )
    seen: dict[str, Recording] = {}
    for recording in recordings:
        if recording.utt_id in seen:
            other = seen[recording.utt_id].clean
            raise InputError(
                f"{recording.clean}: has the same utt_id, {recording.utt_id}, as {other}: rename or"
                " remove one"
            )
        seen[recording.utt_id] = recording
    for recording in recordings:
        if re.search(r"\s", recording.utt_id + recording.speaker) or "\n" in str(recording.clean):
            raise InputError(
                f"{str(recording.clean)!r}: Kaldi's tables want an utt_id without white space:"
                " rename the file or folder"
            )
    return Corpus(layout, [seen[utt_id] for utt_id in sorted(seen, key=str.encode)], missing)


def _vctk(root: Path, audio_folder: Path) -> tuple[list[Recording], list[str]]:
    recordings, only_mic2 = [], set()
    for path in _files(audio_folder):
        if path.parent.parent != audio_folder:
            continue
        if path.stem.endswith("_mic2"):
            only_mic2.add(path.with_name(path.name.replace("_mic2", "_mic1")))
            continue
        utt_id = utt_id_in_folder(path, path.parent)
        number = re.search(r"_(\d+)$", utt_id)
        txt = root / "txt" / path.parent.name / f"{utt_id}.txt"
        recordings.append(
            Recording(
                utt_id,
                path.parent.name,
                path,
                text=_text(txt),
                shared=number is not None and int(number[1]) <= _SHARED_BY_ALL,
            )
        )
    present = {recording.clean for recording in recordings}
    missing = [f"{path}: there is a mic2 recording only" for path in sorted(only_mic2 - present)]
    utt_ids = {recording.utt_id for recording in recordings}
    missing += [
        f"{txt}: there is a text but no recording"
        for txt in sorted(root.glob("txt/*/*.txt"))
        if txt.stem not in utt_ids
    ]
    return recordings, missing


def _plain(folder: Path) -> Iterator[Recording]:
    for path in _files(folder):
        if path.parent != folder:
            speaker = folder / path.relative_to(folder).parts[0]
            yield Recording(utt_id_in_folder(path, speaker), speaker.name, path)


def _check_speakers(folder: Path, recordings: list[Recording], known: Collection[str]) -> None:
    """Refuse folders that are sets (train/s01/...), or one speaker's sessions: their names would be
    taken for speakers.
    """
    by_folder: dict[str, list[Path]] = {}
    for recording in recordings:
        by_folder.setdefault(recording.speaker, []).append(recording.clean)
    for name, files in by_folder.items():
        if name in known or any(path.parent == folder / name for path in files):
            continue
        if not all(_begins_with(path, name) for path in files):
            raise InputError(
                f"{folder / name}: holds recordings in its sub-folders alone: is it a set, as train"
                " in train/s01/1.wav? then name the folder of the speakers' folders, such as"
                f" --corpus {_deeper(folder, files)}; if {name} is a speaker, say so by --split"
            )
    everything = [path for files in by_folder.values() for path in files]
    if (
        len(by_folder) > 1
        and everything
        and all(_begins_with(path, folder.resolve().name) for path in everything)
    ):
        raise InputError(
            f"{folder}: all its recordings begin with {folder.resolve().name}, as if it were one"
            f" speaker's: name the folder above it, --corpus {folder.resolve().parent}"
        )


def _deeper(folder: Path, files: list[Path]) -> Path:
    """The folder above the speakers' ones, for recordings that lie further down: VCTK's, or one
    level below `folder`.
    """
    for path in files[0].parents:
        if path.name in [audio_name for _, audio_name, _ in VCTK]:
            return path.parent
    return folder / files[0].relative_to(folder).parts[0]


def _begins_with(path: Path, name: str) -> bool:
    return re.match(re.escape(name) + r"[-_. ]", path.name) is not None


def _clean_and_noisy(folder: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for clean in sorted(path for path in folder.glob("clean*") if path.is_dir()):
        noisy = folder / clean.name.replace("clean", "noisy", 1)
        if noisy.is_dir():
            pairs.append((clean, noisy))
    return pairs


def _parallel(folder: Path, pairs: list[tuple[Path, Path]]) -> tuple[list[Recording], list[str]]:
    """Speakers are folders, or else what stands before the first `_` of a name (p226_001.wav). A
    folder with `test` in its name is the test split.
    """
    recordings, missing = [], []
    for clean_folder, noisy_folder in pairs:
        for clean in _files(clean_folder):
            relative = clean.relative_to(clean_folder)
            noisy = noisy_folder / relative
            if not noisy.is_file():
                missing.append(f"{clean}: has no counterpart {noisy}")
                continue
            if len(relative.parts) > 1:
                speaker, utt_id = (
                    relative.parts[0],
                    utt_id_in_folder(clean, clean_folder / relative.parts[0]),
                )
            else:
                speaker, utt_id = clean.stem.split("_")[0], utt_id_of_file(clean)
            split = "test" if "test" in clean_folder.name else None
            recordings.append(
                Recording(utt_id, speaker, clean, noisy=noisy, text=None, split=split)
            )
        names = {path.relative_to(clean_folder) for path in _files(clean_folder)}
        missing += [
            f"{path}: has no clean counterpart"
            for path in _files(noisy_folder)
            if path.relative_to(noisy_folder) not in names
        ]
    return recordings, missing


def _files(folder: Path) -> list[Path]:
    return [path for path in audio.find(folder) if path.suffix.lower() in _SUFFIXES]


def _text(path: Path) -> str | None:
    if not path.is_file():
        return None
    return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) or None
