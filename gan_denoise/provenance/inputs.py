"""What files were made from, by content.

A repeated command learns from it what is left to do, and which files no longer belong.

A list of files has a table beside it, `NAME.made`, with a line for each file:

    utt_id FROM IS ...

FROM is the digest of all that the file was made from. IS is the digest of the file. What else is
kept follows.

A file is up to date when both agree with what is there now. Times of files decide nothing. Lines
are appended while the files are made, so that an interrupted command goes on where it stopped, and
are sorted when all files are there. Programs that make parts of the list at the same time append to
tables of their own, `NAME.made.PART`. These are read as well, and are gone when the whole is
written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from gan_denoise.datadir import SPLITS, DataDir, c_sorted, read_noise
from gan_denoise.errors import InputError
from gan_denoise.system.files import digest, write_atomically

FORMAT = 1  # of what the recipe writes: another one, and everything is made anew
_DIGITS = 16
Key = TypeVar("Key")


def made_from(*parts: object) -> str:
    """The digest of what something was made from.

    parts: JSON values, such as digests of files and settings.
    """
    return digest([FORMAT, *parts])


def content_digest(content: bytes) -> str:
    """What `file_digest` gives for a file with these bytes."""
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def file_digest(path: Path) -> str | None:
    """16 hexadecimal digits of the SHA-256 of a file's bytes; None where there is no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def file_digests(files: Mapping[Key, Path], *, jobs: int = 1) -> dict[Key, str | None]:
    """`file_digest` of many, by threads."""
    with ThreadPoolExecutor(max_workers=jobs) as threads:
        return dict(zip(files, threads.map(file_digest, files.values()), strict=True))


def data_digest(data: DataDir, folder: Path, *, jobs: int = 1) -> str:
    """The identity of a data directory, as a digest.

    It depends on the utterances, their speakers, and the content of their clean and noisy files.

    Where stage 1 has noted what it made (noisy.made), this raises InputError for a noisy file that
    has changed since, or that was not made from the clean file that is there now.
    """
    clean, noisy = (file_digests(files, jobs=jobs) for files in (data.wav, data.noisy))
    entries = Provenance(folder / "noisy.made").made
    fingerprint = read_noise(folder)["fingerprint"] if entries else ""
    for utt_id, entry in entries.items():
        source = utt_id in noisy and noise_source(fingerprint, folder, clean[utt_id])
        if source and entry[:2] != (source, noisy[utt_id]):
            raise InputError(
                f"{data.noisy[utt_id]}: is not what stage 1 has made of {data.wav[utt_id]}: one of"
                " them was replaced or is gone: run stages 0 and 1 again"
            )
    return made_from(
        sorted([key, data.utt2spk[key], clean[key], noisy.get(key)] for key in data.wav)
    )


def noise_source(fingerprint: str, folder: Path, clean: str | None) -> str:
    """What a noisy file of a data directory is made from, as a digest.

    It depends on the noise, the split, and the clean file. clean: the digest of that file.
    """
    return made_from(fingerprint, split_of(folder), clean)


def split_of(folder: Path) -> str:
    """train, dev or test: the name of a data directory up to the first `_`.

    A directory that has any other name counts as test.
    """
    split = folder.name.split("_")[0]
    return split if split in SPLITS else "test"


class Made(NamedTuple):
    """A line of the table. more: what else its maker wants to remember, words without blanks."""

    made_from: str
    digest: str
    more: tuple[str, ...] = ()


class Provenance:
    """The table `path` (NAME.made) and those of its parts.

    A damaged line counts as none. part: the name of the part that this program makes, "" for the
    whole.
    """

    def __init__(self, path: Path, part: str = ""):
        self._path, self._own = path, path.with_name(f"{path.name}.{part}") if part else path
        self._torn = ""
        self.made: dict[str, Made] = {}
        for table in (path, *self._parts()):
            *lines, torn = (
                table.read_text(encoding="utf-8", errors="replace").split("\n")
                if table.is_file()
                else [""]
            )
            self._torn = torn if table == self._own else self._torn
            for line in lines:
                key, *words = line.split(" ")
                if len(words) >= 2:
                    self.made[key] = Made(words[0], words[1], tuple(words[2:]))

    @property
    def scattered(self) -> bool:
        """Whether parts have tables that `keep` would gather."""
        return bool(self._parts())

    def _parts(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{self._path.name}.*-of-*"))

    def due(
        self, sources: Mapping[str, str | None], digests: Mapping[str, str | None]
    ) -> list[str]:
        """Those keys whose file is missing, changed, or made from something else.

        sources: key -> what its file is to be made from. digests: key -> digest of the file as it
        is now.
        """
        return [
            key
            for key, source in sources.items()
            if key not in self.made or self.made[key][:2] != (source, digests.get(key))
        ]

    def add(self, key: str, source: str, file: Path, *more: str) -> None:
        """Note, at once, that `file` has been made from `source`."""
        entry = Made(source, str(file_digest(file)), more)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._own, "a", encoding="utf-8") as table:
            table.write(("\n" if self._torn else "") + self._line(key, entry))
        self.made[key], self._torn = entry, ""

    def keep(self, keys: Iterable[str]) -> None:
        """Write the table anew, sorted, with these keys alone."""
        self.made = {key: self.made[key] for key in c_sorted(keys)}
        write_atomically(
            self._path, "".join(self._line(key, entry) for key, entry in self.made.items())
        )
        for table in self._parts():
            table.unlink(missing_ok=True)

    @staticmethod
    def _line(key: str, entry: Made) -> str:
        return " ".join((key, entry.made_from, entry.digest, *entry.more)) + "\n"
