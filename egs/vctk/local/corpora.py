"""The corpora that the recipe knows, recognised by what is there: each lists its recordings as
`Recording`s.

VCTK 0.92       wav48_silence_trimmed/p225/p225_001_mic1.flac, txt/p225/p225_001.txt
                (the mini corpus too)
VCTK 0.80       wav48/p225/p225_001.wav, txt/p225/p225_001.txt
parallel        clean and noisy recordings side by side, in several ways (parallel.py)
CSV, Kaldi      lists that somebody has written (parallel.py)
plain           SPEAKER/**/*.{wav,flac,ogg,mp3}: a speaker's folder holds recordings itself, or they
                begin with its name (as in a set of LibriSpeech,
                1034/121119/1034-121119-0005.flac)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import parallel
from gan_denoise import audio
from gan_denoise.errors import InputError
from gan_denoise.ids import utt_id_in_folder
from recording import Recording, unused

_SHARED_BY_ALL = 24  # VCTK's sentences 001 to 024 are read by every speaker
_KALDI = ("utt2spk", "spk2utt", "utt2dur", "text", "spk2gender", "segments")
MINI = "mini-corpus.txt"  # by which the mini corpus is known, wherever it lies


@dataclass(frozen=True)
class Corpus:
    """recordings: sorted by utt_id. missing: what the corpus lists but does not have, one line
    each. unused: what it has that is no recording, by kind.
    """

    layout: str
    recordings: list[Recording]
    missing: list[str]
    unused: dict[str, list[Path]]

    @property
    def brings_noise(self) -> bool:
        return self.recordings[0].noisy is not None


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
    if folder.is_file() and folder.suffix in (".csv", ".scp"):
        read_list = parallel.read_csv if folder.suffix == ".csv" else parallel.read_scp_of_pairs
        return _checked("listed", folder, *_there(read_list(folder)))
    if not folder.is_dir():
        raise InputError(f"{folder}: no such corpus folder: check --corpus")
    if folders := parallel.kaldi_folders(folder):
        return _checked("Kaldi", folder, *_there(list(parallel.read_kaldi(folders))))
    for layout, audio_name, archive in VCTK:
        for root in (
            folder,
            folder / archive,
            *([folder.parent] if folder.name == audio_name else []),
        ):
            if (root / audio_name).is_dir():
                return _checked(layout, folder, *_vctk(root, root / audio_name))
    if pairs := parallel.folders_of_pairs(folder):
        return _checked("parallel", folder, *parallel.read_pairs(pairs))
    loose = [
        f"{path}: lies outside the speakers' folders"
        for path in audio.find(folder)
        if path.parent == folder
    ]
    recordings = list(_plain(folder))
    _check_speakers(folder, recordings, known_speakers)
    return _checked("plain", folder, recordings, loose)


def _checked(layout: str, folder: Path, recordings: list[Recording], missing: list[str]) -> Corpus:
    if not recordings:
        raise InputError(
            f"{folder}: no recordings found: --corpus wants VCTK (wav48_silence_trimmed/ or"
            " wav48/), clean*/ and noisy*/ folders, one folder per speaker with audio files, a"
            " Kaldi data directory, or a CSV file"
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
    given = sum(recording.noisy is not None for recording in recordings)
    if 0 < given < len(recordings):
        raise InputError(f"{folder}: {given} of {len(recordings)} recordings have a noisy file")
    if given and layout != "parallel":
        layout = f"parallel ({layout})"
    used = {recording.clean for recording in recordings} | {r.noisy for r in recordings if r.noisy}
    named = {Path(line.split(": ")[0]) for line in missing}  # which have a line of their own
    left = unused(folder, used | named, _serves(layout)) if folder.is_dir() else {}
    return Corpus(layout, [seen[utt_id] for utt_id in sorted(seen, key=str.encode)], missing, left)


def _serves(layout: str) -> Callable[[Path], bool]:
    """Whether a file that is no recording has a use in a layout."""
    if layout.startswith("VCTK"):  # texts, and the second microphone
        return lambda path: path.suffix == ".txt" or path.stem.endswith("_mic2")
    if layout.endswith("(Kaldi)") or layout == "Kaldi":
        return lambda path: path.suffix == ".scp" or path.name in _KALDI
    return lambda path: False


def _there(recordings: list[Recording]) -> tuple[list[Recording], list[str]]:
    """Those of a list whose files are there, and a line for each of the others."""
    gone = {
        recording.utt_id: f"{path}: is listed, but is not there"
        for recording in recordings
        for path in (recording.noisy, recording.clean)
        if path is not None and not path.is_file()
    }
    return [own for own in recordings if own.utt_id not in gone], list(gone.values())


def _vctk(root: Path, audio_folder: Path) -> tuple[list[Recording], list[str]]:
    recordings, only_mic2 = [], set()
    for path in audio.find(audio_folder):
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
    for path in audio.find(folder):
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


def _text(path: Path) -> str | None:
    if not path.is_file():
        return None
    return " ".join(path.read_text(encoding="utf-8", errors="replace").split()) or None
