"""AIFF, AU and CAF files whose header tells of fewer samples than there are.

A recorder that crashed leaves an old size there. libsndfile is given the file with the size that is
right. (WAV files, of which there is more to know, are read by riff.py's rules.)
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gan_denoise.audio import riff

_CAF_CHUNK = struct.Struct(">4sq")


@dataclass(frozen=True)
class Stale:
    """What a header should say: place -> the bytes there. remark: what is to be known of it."""

    patches: dict[int, bytes]
    remark: str


def look(path: Path) -> Stale | None:
    """None where the header is right, and for other formats."""
    with open(path, "rb") as file:
        begin = file.read(12)
        end = file.seek(0, os.SEEK_END)
        if begin[:4] == b"FORM" and begin[8:] in (b"AIFF", b"AIFC"):
            return _aiff(file, end)
        if begin[:4] == b".snd":
            at, size = struct.unpack(">II", begin[4:])
            return _judged(file, at, size, at + size, end, {8: _sized(end - at)})
        if begin[:4] == b"caff":
            return _caf(file, end)
    return None


def _aiff(file: BinaryIO, end: int) -> Stale | None:
    place = 12
    while chunk := riff.chunk_at(file, place, end, ">"):
        name, at, size = chunk
        if name == b"SSND":
            behind, stop = riff.behind_samples(file, at + size, end, ">")
            last, sound = riff.last_chunks(file, at, end, ">")
            sizes = {4: _sized(end - 8), at - 4: _sized(sound - at)}
            return None if behind else _judged(file, at + 8, size - 8, stop, end, sizes, sound)
        place = at + size + size % 2
    return None


def _caf(file: BinaryIO, end: int) -> Stale | None:
    place, samples = 8, None
    while place + _CAF_CHUNK.size <= end:
        file.seek(place)
        name, size = _CAF_CHUNK.unpack(file.read(_CAF_CHUNK.size))
        at = place + _CAF_CHUNK.size
        if samples is None and name == b"data":
            samples = at, size
        elif not name.isalnum() or not 0 <= size <= end - at:
            break
        if size < 0:  # to the end
            return None
        place = at + size
    if samples is None:
        return None
    at, size = samples
    # Chunks and then rubbish are no sound
    stop = place if place <= at + size else end
    return _judged(file, at + 4, size - 4, stop, end, {at - 8: struct.pack(">q", end - at)})


def _sized(size: int) -> bytes:
    """As far as 32 bits go."""
    return struct.pack(">I", min(max(size, 0), 2**32 - 1))


def _judged(
    file: BinaryIO,
    at: int,
    size: int,
    stop: int,
    end: int,
    patches: dict[int, bytes],
    sound: int | None = None,
) -> Stale | None:
    """What is wrong, if what lies from `stop` to `end` is known by no chunk.

    at, size: of the samples, as the header says. sound: where they end in truth, if not at `end`.
    """
    if stop >= end or size < 0:
        return None
    if size and riff.is_rubbish(file, [], stop, end):
        return Stale({}, riff.LEFT_OUT.format(end - stop))
    there = (end if sound is None else sound) - at
    return Stale(
        patches,
        f"the input's header tells of {size} bytes of samples, and all {there} that are there are"
        " read",
    )


class Patched(io.RawIOBase):
    """A file with other bytes at some places, to be read."""

    def __init__(self, path: Path, patches: dict[int, bytes]):
        self._file, self._patches = open(path, "rb"), patches  # noqa: SIM115  # closed below

    def readinto(self, buffer: Any) -> int:
        at = self._file.tell()
        content = bytearray(self._file.read(len(buffer)))
        for place, new in self._patches.items():
            for offset, byte in enumerate(new, start=place - at):
                if 0 <= offset < len(content):
                    content[offset] = byte
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
