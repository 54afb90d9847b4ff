"""IN and OUT of a command: a file, a folder (mirrored), an scp file, or several of these."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gan_denoise import audio
from gan_denoise.audio.encoding import container
from gan_denoise.datadir import read_scp
from gan_denoise.errors import InputError
from gan_denoise.system.ids import utt_id_below, utt_id_of_file

FILES = "a file, a folder (with its subfolders), or an scp file (lines of a name and a path)"
_NAMED = 5  # of files that are left out
Note = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """One file to be read and one to be written.

    utt_id: set where the command needs one. alone: whether this is the only task. called: path ->
    the name by which people know it, for temporary files, which they did not name.
    """

    source: Path
    target: Path
    utt_id: str
    alone: bool = True
    called: Mapping[str, str] = field(default_factory=dict)

    def in_words(self, text: str) -> str:
        """A text that names files, as people call them."""
        for path, name in self.called.items():
            text = text.replace(path, name)
        return text

    def error(self, error: InputError) -> InputError:
        """Why it failed; names a file, as people call it."""
        error = error.at(self.source, self.target)
        where, problem, remedy = map(self.in_words, (error.where, error.problem, error.remedy))
        return InputError(where, problem, remedy)


def lists_files(path: Path) -> bool:
    """Whether it is an scp file, by its name."""
    return path.suffix.lower() == ".scp" and not path.is_dir()


def tasks(
    sources: Sequence[Path],
    target: Path,
    *,
    overwrite: bool,
    mirror: bool,
    note: Note,
    into_folder: bool = False,
) -> list[Task]:
    """The files of one or several IN with their outputs.

    mirror: outputs are called as their inputs are, so no utt_id is needed; else .wav. note: is told
    what a folder holds besides. into_folder: OUT is named as a folder, which may not be there yet.
    Raises InputError where an IN holds none, or OUT does not fit.
    """
    if into_folder and target.is_file():
        raise InputError(target, "is a file, and OUT/ a folder", "leave out the slash")
    if len(sources) > 1:
        named_as_file = not into_folder and (lists_files(target) or _is_audio(target))
        if target.is_file() or named_as_file:
            raise InputError(target, "there are several inputs, so OUT has to be a folder")
        pairs = [
            pair
            for source in sources
            for pair in _outputs(source, _place_in(target, source, mirror), overwrite, mirror, note)
        ]
    elif into_folder and sources[0].is_file() and not lists_files(sources[0]):
        pairs = [_into(target, sources[0], mirror)]
    else:
        pairs = _outputs(sources[0], target, overwrite, mirror, note)
    _refuse_overlap(pairs)
    return [Task(source, path, key, alone=len(pairs) == 1) for key, source, path in pairs]


Outputs = list[tuple[str, Path, Path]]  # utt_id or path, file to be read, file to be written


def _place_in(folder: Path, source: Path, mirror: bool) -> Path:
    """Where the output of one of several inputs goes."""
    if source.is_dir():
        return folder / source.resolve().name
    return folder if lists_files(source) else _into(folder, source, mirror)[2]


def _suffix(source: Path, mirror: bool) -> str:
    return source.suffix if mirror and container(source.suffix) else ".wav"


def _into(folder: Path, source: Path, mirror: bool) -> tuple[str, Path, Path]:
    """The output of a file in a folder."""
    key = str(source) if mirror else utt_id_of_file(source)
    return key, source, folder / f"{source.stem}{_suffix(source, mirror)}"


def _outputs(source: Path, target: Path, overwrite: bool, mirror: bool, note: Note) -> Outputs:
    if source.is_dir():
        _check_mirror(source, target)
        by_path = {str(path): path for path in _found(source, note)} if mirror else {}
        return [
            (key, path, target / path.relative_to(source).with_suffix(_suffix(path, mirror)))
            for key, path in (by_path or files_of(source, note)).items()
        ]
    if lists_files(source):
        _check_list(source, target, overwrite)
        folder = target.with_suffix("") if lists_files(target) else target
        return [
            (key, path, folder / f"{key}{_suffix(path, mirror)}")
            for key, path in read_scp(source).items()
        ]
    if not source.exists():
        raise InputError(source, "no such file or folder", "check the path")
    if lists_files(target):
        raise InputError(target, f"{source} is one file, so OUT has to be a file or a folder")
    if target.is_dir():
        return [_into(target, source, mirror)]
    if not mirror and target.suffix.lower() != ".wav":
        name = target.with_suffix(".wav").name
        raise InputError(target, "the output has to be WAV", f"name it {name}")
    return [(str(source) if mirror else utt_id_of_file(source), source, target)]


def _check_mirror(source: Path, target: Path) -> None:
    if lists_files(target) or target.is_file():
        raise InputError(target, f"{source} is a folder, so OUT has to be a folder too")
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(target, "lies inside the input folder", "choose another OUT")


def _check_list(source: Path, target: Path, overwrite: bool) -> None:
    if _is_audio(target):
        raise InputError(target, f"{source} lists files, so OUT has to be a folder or an scp file")
    if target.exists() and lists_files(target) and (not overwrite or target.samefile(source)):
        raise InputError(
            target, "exists", "choose another OUT, or give --overwrite if it is not the input"
        )


def _is_audio(target: Path) -> bool:
    """Whether it is to be one recording, by its name."""
    return target.suffix.lower() in audio.READ and not target.is_dir()


def _refuse_overlap(pairs: Outputs) -> None:
    """Raises InputError where an output is an input, whatever its name, or another output."""
    inputs = {_identity(source): source for _, source, _ in pairs if source.exists()}
    written: dict[str, Path] = {}
    for _, source, target in pairs:
        if same := inputs.get(_identity(target)):
            raise InputError(
                target,
                f"would be written from {source}, and is an input file ({same})",
                "choose another OUT",
            )
        place = os.path.realpath(target)
        if place in written:
            raise InputError(
                target, f"would be written from {written[place]} and from {source}", "rename one"
            )
        written[place] = source


def _identity(path: Path) -> object:
    """What two names of a file have in common."""
    try:
        about = path.stat()
    except OSError:
        return os.path.realpath(path)
    return about.st_dev, about.st_ino


def _found(folder: Path, note: Note) -> list[Path]:
    """The recordings of a folder; what it holds besides is named."""
    there, unreadable = audio.search(folder)
    files = [path for path in there if path.suffix.lower() in audio.READ]
    others = [path for path in there if path.suffix.lower() not in audio.READ]
    lost = f"since they cannot be read: {_named(unreadable, folder)}" if unreadable else ""
    if not files:
        kinds = f"({', '.join(audio.SUFFIXES)}, ...)"
        more = f"; left out, {lost}" if lost else ""
        raise InputError(folder, f"holds no audio files {kinds}{more}", "check the path")
    names = _named(others, folder)
    why = [f"since they are not named like audio files: {names}"] if others else []
    if why or lost:
        note(f"{folder}: left out, {'; '.join([*why, *([lost] if lost else [])])}")
    return files


def _named(paths: Sequence[Path], folder: Path) -> str:
    """Their number, and the names of the first."""
    names = ", ".join(str(path.relative_to(folder)) for path in paths[:_NAMED])
    return f"{len(paths)} ({names}{', ...' if len(paths) > _NAMED else ''})"


def files_of(source: Path, note: Note) -> dict[str, Path]:
    """utt_id -> file, for a file, a folder or an scp file. Raises InputError."""
    if source.is_dir():
        return _by_utt_id(source, _found(source, note))
    if lists_files(source):
        return read_scp(source)
    if not source.exists():
        raise InputError(source, "no such file or folder", "check the path")
    return {utt_id_of_file(source): source}


def _by_utt_id(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        utt_id = utt_id_below(path, folder)
        if utt_id in files:
            raise InputError(
                path, f"has the same utt_id, {utt_id}, as {files[utt_id]}", "rename or remove one"
            )
        files[utt_id] = path
    return files
