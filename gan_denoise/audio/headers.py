"""What the bytes of an audio file tell about its length.

They are read where libsndfile's count cannot be believed.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile as sf

from gan_denoise.errors import InputError

_CODED = ("GSM610", "MPEG_LAYER_III")  # in WAV, where libsndfile adds a block
# Sizes that writers leave in the header of a pipe: sox and arecord, ffmpeg, sox in AIFF
_PIPE_SIZES, _PIPE_TOLERANCE = (2**31, 2**32 - 1, 0x7F000000), 8192
_WRAP = 2**32  # what a size of 32 bits cannot tell from nothing
_UNKNOWN_FRAMES = 2**48  # more than any file has: libsndfile's word for a FLAC without a count
# libsndfile's log, which alone tells what the header said: "data : 617400 (should be 99956)"
_SIZE = re.compile(r"^ *(?:RIFF|FORM|data|SSND)[^:\n]*: (\d+)( \(should be)?", re.MULTILINE)
# How a file of the kind begins; a second beginning within it was joined on
_BEGINS = {
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "OGG": re.compile(rb"OggS\x00[\x02\x03]"),
    "WAV": re.compile(rb"RIFF.{4}WAVEfmt ", re.DOTALL),
}
# Bytes of a page at most; the flag of the last one (RFC 3533, section 6)
_OGG_PAGE, _OGG_END = 2**16, 4
# The number of frames in an MP3's first frame (flag 1), and where behind it delay and padding stand
_XING = re.compile(rb"(?:Xing|Info)\x00\x00\x00[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.DOTALL)
_XING_REACH, _LAME_AT = 4096, 141


@dataclass(frozen=True)
class Promise:
    """What a file promises about its length.

    samples: how many must be there (None: unknown). limit: what follows after so many samples is
    padding. end: the time, in samples, at which the last one ends. beyond: whether the samples go
    on behind the size in the header.
    """

    samples: int | None = None
    limit: int | None = None
    end: int | None = None
    beyond: bool = False


def mpeg(path: Path) -> Promise | None:
    """For a file that begins with an MPEG frame, behind an ID3 tag or not; None for any other."""
    with open(path, "rb") as file:
        begin = file.read(10)
        if begin[:3] == b"ID3" and len(begin) == 10:  # its size: four times seven bits
            size = sum(
                (byte & 127) << shift for byte, shift in zip(begin[6:], (21, 14, 7, 0), strict=True)
            )
            file.seek(10 + size)
        else:
            file.seek(0)
        begin = file.read(_XING_REACH)
    if len(begin) < 2 or begin[0] != 0xFF or begin[1] < 0xE0:
        return None
    counted = _XING.search(begin)
    if not counted:
        return Promise()
    frame_size = 1152 if begin[1] & 0x08 else 576  # MPEG 1; 2 and 2.5
    cut = int.from_bytes(begin[counted.start() + _LAME_AT :][:3])  # two times twelve bits
    return Promise(int.from_bytes(counted[1]) * frame_size - (cut >> 12) - (cut & 0xFFF))


def doubtful(path: Path, file: sf.SoundFile) -> Promise | None:
    """What to expect of a file that libsndfile may not read right; None for all others.

    It does not read such a file to its end, or passes over its losses. Raises InputError for a file
    that no decoder reads whole.
    """
    if file.format == "OGG":
        end = _ogg_end(path)
        if _joined(path, "OGG"):
            return Promise()
        return Promise(limit=file.frames, end=end) if file.subtype == "VORBIS" else None
    if file.format == "FLAC" and (file.frames >= _UNKNOWN_FRAMES or _joined(path, "FLAC")):
        return Promise()
    if file.format in ("WAV", "WAVEX") and (frames := _longer(path)):
        return Promise(frames, limit=frames, beyond=True)
    if file.format in ("WAV", "WAVEX", "AIFF") and _unfinished(path, file):
        if _joined(path, "WAV"):
            raise InputError(path, "holds several recordings, joined into one file", "split them")
        return Promise()
    return Promise() if file.subtype in _CODED and not shortened(file) else None


def shortened(file: sf.SoundFile) -> bool:
    """Whether the header promised more than the file holds, which libsndfile repairs."""
    return any(repaired for _, repaired in _SIZE.findall(file.extra_info))


def _unfinished(path: Path, file: sf.SoundFile) -> bool:
    """Whether the sizes in the header are those that a pipe left behind."""
    sizes = [int(size) for size, _ in _SIZE.findall(file.extra_info)]
    if any(abs(size - pipe) <= _PIPE_TOLERANCE for size in sizes for pipe in _PIPE_SIZES):
        return True
    with open(path, "rb") as content:
        (riff_size,) = struct.unpack("<4xI", content.read(8))
    # No samples, and yet more bytes than the header knows of
    return file.frames == 0 and file.format != "AIFF" and riff_size + 8 < path.stat().st_size


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a RIFF or RF64 file as its header has them.

    Yields the name, where the content begins, and its size in bytes.
    """
    file.seek(0, os.SEEK_END)
    end, at = file.tell(), 12
    long: int | None = None  # RF64: the size of what has no room for it
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"ds64":
            long = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"data" and size == 2**32 - 1 and long is not None:
            size = long
        yield name, at + 8, size
        at += 8 + size + size % 2


def _longer(path: Path) -> int | None:
    """The samples of a WAV file that holds more than the size in its header; None for others.

    A pipe left such a size there, or the header had no room for the upper bits of the size.
    """
    length = path.stat().st_size
    if length < min(_PIPE_SIZES):
        return None
    with open(path, "rb") as file:
        block = 0
        for name, at, size in chunks(file):
            if name == b"fmt ":
                file.seek(at)
                (block,) = struct.unpack("<12xH", file.read(14).ljust(14, b"\0"))
            if name == b"data":
                more = length - at - size
                if not any(abs(size - pipe) <= _PIPE_TOLERANCE for pipe in _PIPE_SIZES):
                    more = more // _WRAP * _WRAP  # what is left lies behind the samples
                return (size + more) // block if more > 0 and block else None
    return None


def _ogg_end(path: Path) -> int:
    """The granule position of the last page, which is its time in samples.

    Raises InputError where the last page is missing.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 2 * _OGG_PAGE))
        tail = file.read()
    page = tail[tail.rfind(b"OggS\0") :]
    if len(page) < 14 or not page[5] & _OGG_END:
        raise InputError(path, "truncated, its last page is missing", "replace or remove it")
    return int.from_bytes(page[6:14], "little")


def _joined(path: Path, kind: str) -> bool:
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return _BEGINS[kind].search(content, 4) is not None
