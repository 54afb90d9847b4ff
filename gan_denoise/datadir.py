"""Kaldi data directories: read, write, validate.

    wav.scp (clean)   utt2spk   spk2utt   utt2dur   text (where every text is known)
    noisy.scp, noise.yaml (stage 1)

Every file is C-sorted by its first field. Kaldi's validate_data_dir.sh also wants utt2spk in order
of the speakers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gan_denoise.config import read_yaml
from gan_denoise.errors import InputError
from gan_denoise.system.files import write_atomically
from gan_denoise.system.ids import is_line, is_path

SPLITS = ("train", "dev", "test")


def spread(length: int, count: int) -> list[int]:
    """Up to `count` places of a list of `length`, evenly spread, its first and last included."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def c_sorted(words: Iterable[str]) -> list[str]:
    """Sorted by bytes, as `LC_ALL=C sort` does."""
    return sorted(words, key=str.encode)


def speaker_ids(names: Iterable[str]) -> dict[str, str]:
    """Speaker name -> spk_id, such that utterances stand in the order of their spk_ids.

    Kaldi requires this order of utterances `<name>_...`. A name is its own spk_id, except where it
    begins another name that sorts differently with `_` behind it. Among spk1 and spk10, for
    example, the utterances sort as spk10_001, spk1_001, so the first speaker gets the spk_id
    `spk1_`.
    """
    names = set(names)

    def misplaced(name: str) -> bool:
        return any(
            other != name and other.startswith(name) and other.encode() < f"{name}_".encode()
            for other in names
        )

    return {name: f"{name}_" if misplaced(name) else name for name in c_sorted(names)}


def read_table(path: str | Path) -> dict[str, str]:
    """Read `key value...` lines, with blanks or tabs between.

    Raises InputError for a missing or empty file, an empty value or a repeated key.
    """
    return {key: value for key, (_, value) in read_numbered(Path(path)).items()}


def read_numbered(path: Path) -> dict[str, tuple[int, str]]:
    """`read_table` with the number of each line: key -> (number, value). Raises InputError."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}: check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text: is this a table of `key value` lines?"
        ) from error
    table: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(
        content.removesuffix("\n").split("\n") if content else (), start=1
    ):
        key, value, *_ = [*re.split(r"[ \t]+", line.strip(" \t\r"), maxsplit=1), ""]
        if not key or not value:
            raise InputError(f"{path}:{number}: expected `key value`, found {line[:60]!r}")
        if key in table:
            raise InputError(f"{path}:{number}: {key} is listed twice: keep one of the two lines")
        table[key] = number, value
    if not table:
        raise InputError(f"{path}: the file is empty: run the stage that writes it again")
    return table


def write_table(path: str | Path, table: Mapping[str, object]) -> None:
    """Write `key value` lines, C-sorted, atomically."""
    write_atomically(path, "".join(f"{key} {table[key]}\n" for key in c_sorted(table)))


def read_scp(path: str | Path) -> dict[str, Path]:
    """Read an scp file: utt_id -> audio file.

    Relative paths are relative to the caller. Pipes and control characters are refused.
    """
    files = {}
    for utt_id, (number, value) in read_numbered(Path(path)).items():
        where = f"{path}:{number}"
        if not is_line(f"{utt_id}{value}"):
            line = repr(f"{utt_id} {value}"[:60])
            raise InputError(where, f"holds a control character: {line}", "rename the file")
        if is_path(utt_id):
            raise InputError(where, f"{utt_id}: an utt_id may not be a path", "rename it")
        if value.endswith("|"):
            raise InputError(
                where,
                f"{utt_id}: commands (`... |`) are not run",
                "write the audio to a file first",
            )
        files[utt_id] = Path(value)
    return files


@dataclass(frozen=True)
class DataDir:
    """One split of a data directory.

    wav, noisy: utt_id -> audio file. utt2spk: utt_id -> spk_id. utt2dur: utt_id -> seconds.
    """

    wav: dict[str, Path]
    utt2spk: dict[str, str]
    utt2dur: dict[str, float]
    text: dict[str, str] = field(default_factory=dict)
    noisy: dict[str, Path] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.wav)

    @property
    def utt_ids(self) -> list[str]:
        return c_sorted(self.wav)

    @property
    def duration_s(self) -> float:
        return sum(self.utt2dur.values())

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        inverse: dict[str, list[str]] = {}
        for utt_id in c_sorted(self.utt2spk):
            inverse.setdefault(self.utt2spk[utt_id], []).append(utt_id)
        return inverse

    def spread(self, count: int) -> list[str]:
        """Up to `count` utterances, evenly spread over the list, and so over the speakers."""
        return [self.utt_ids[place] for place in spread(len(self), count)]

    def as_written(self) -> DataDir:
        """What is read again once this has been written.

        There is text only where it is complete, since Kaldi's check demands that.
        """
        durations = {utt_id: float(f"{value:.6f}") for utt_id, value in self.utt2dur.items()}
        text = self.text if set(self.text) == set(self.wav) else {}
        return replace(self, utt2dur=durations, text=text)

    def write(self, folder: str | Path) -> None:
        """Write the tables that stage 0 makes. A `text` of before is removed where there is none.

        The noisy files are stage 1's.
        """
        folder, tables = Path(folder), self.as_written()
        write_table(folder / "utt2spk", self.utt2spk)
        write_table(
            folder / "spk2utt", {spk_id: " ".join(utts) for spk_id, utts in self.spk2utt.items()}
        )
        write_table(
            folder / "utt2dur",
            {utt_id: f"{duration:.6f}" for utt_id, duration in self.utt2dur.items()},
        )
        if tables.text:
            write_table(folder / "text", tables.text)
        else:
            (folder / "text").unlink(missing_ok=True)
        # Last: its presence says that the others are whole
        write_table(folder / "wav.scp", self.wav)


def read(folder: str | Path, *, noisy: bool = False) -> DataDir:
    """Read and validate a data directory; with noisy=True it must have noisy.scp.

    Raises InputError.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such data directory: run stage 0 first")
    validate(folder)
    if noisy and not (folder / "noisy.scp").is_file():
        raise InputError(f"{folder}: has no noisy.scp: run stage 1 first")
    has_noisy = (folder / "noisy.scp").is_file()
    return DataDir(
        wav=read_scp(folder / "wav.scp"),
        utt2spk=read_table(folder / "utt2spk"),
        utt2dur={utt_id: float(value) for utt_id, value in read_table(folder / "utt2dur").items()},
        text=read_table(folder / "text") if (folder / "text").is_file() else {},
        noisy=read_scp(folder / "noisy.scp") if has_noisy else {},
    )


def validate(folder: str | Path) -> None:
    """Check what Kaldi's validate_data_dir.sh --no-feats --no-text checks.

    noisy.scp must meet the same conditions. Raises InputError.
    """
    folder = Path(folder)
    tables = {}
    for name in ("wav.scp", "utt2spk", "spk2utt", "utt2dur", "text", "noisy.scp"):
        if (folder / name).is_file() or name not in ("text", "noisy.scp"):
            tables[name] = read_table(folder / name)
            if list(tables[name]) != c_sorted(tables[name]):
                raise InputError(f"{folder / name}: is not sorted: sort it with LC_ALL=C sort")
    utt2spk = tables["utt2spk"]
    for name, table in tables.items():
        if name != "spk2utt" and table.keys() != utt2spk.keys():
            odd = c_sorted(table.keys() ^ utt2spk.keys())[0]
            raise InputError(
                f"{folder / name}: lists other utterances than utt2spk does, such as {odd}"
            )
    if any(len(spk_id.split()) != 1 for spk_id in utt2spk.values()):
        raise InputError(f"{folder / 'utt2spk'}: expected `utt_id spk_id` lines")
    if list(utt2spk.values()) != c_sorted(utt2spk.values()):
        raise InputError(
            f"{folder / 'utt2spk'}: is not in order of its speakers: make spk_id a prefix of utt_id"
        )
    listed = [
        (utt_id, spk_id) for spk_id, utts in tables["spk2utt"].items() for utt_id in utts.split()
    ]
    if sorted(listed) != sorted(utt2spk.items()):
        raise InputError(f"{folder / 'spk2utt'}: is not the inverse of utt2spk")
    for utt_id, value in tables["utt2dur"].items():
        try:
            positive = float(value) > 0
        except ValueError:
            positive = False
        if not positive:
            raise InputError(
                f"{folder / 'utt2dur'}: {utt_id}: expected a duration in seconds, found {value!r}"
            )


def check_duration(
    path: Path, utt_id: str, frames: int, duration_s: float, sample_rate: int
) -> None:
    """Refuse a file that is not as long as its utterance (utt2dur, to 10 ms). Raises InputError."""
    if abs(frames / sample_rate - duration_s) > 0.01:
        raise InputError(
            f"{path}: {utt_id}: lasts {frames / sample_rate:.3f} s, utt2dur says {duration_s:.3f}"
            " s: was it replaced? run stages 0 and 1 again"
        )


def read_noise(folder: str | Path) -> dict:
    """Read `noise.yaml` of a corrupted data directory: its `fingerprint` and `sample_rate`.

    Raises InputError.
    """
    path = Path(folder) / "noise.yaml"
    if not path.is_file():
        raise InputError(f"{path}: is missing: run stage 1 first")
    record = read_yaml(path)
    if not {"fingerprint", "sample_rate"} <= record.keys():
        raise InputError(f"{path}: has no fingerprint or sample_rate: run stage 1 again")
    return record
