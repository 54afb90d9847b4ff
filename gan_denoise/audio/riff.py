"""The chunks of a WAV file, and where its samples end, whatever the header says of that.

A pipe leaves a size there that means nothing, and a recorder that crashed leaves an old one.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gan_denoise.errors import InputError

Chunk = tuple[bytes, int, int]  # the name, where the content begins, its size in bytes

_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}  # of the bytes of a size
_LONG = 2**32 - 1  # RF64: the size is in the chunk ds64
# Sizes that writers leave in the header of a pipe: sox and arecord, ffmpeg, sox in AIFF
PIPE_SIZES, PIPE_TOLERANCE = (2**31, 2**32 - 1, 0x7F000000), 8192
_WRAP = 2**32  # what a size of 32 bits cannot tell from nothing
_NAME = re.compile(rb"[!-~][ -~]{3}")
# What stands behind samples; LIST and id3 hold tags
_BEHIND = re.compile(
    rb"LIST|list|id3 |ID3 |bext|iXML|axml|chna|cue |plst|smpl|inst|acid|strc|levl|cart|umid|DISP"
    rb"|_PMX|aXML|afsp|JUNK|junk|PAD |FLLR|fact|PEAK|note|SNDM|LGWV|elm1|elmo|regn|minf|MARK"
    rb"|NAME|AUTH|ANNO|COMT|COMM|APPL|MIDI|AESD|INST|SAXL|basc|trns|cate"  # AIFF
)
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")  # of other formats
LEFT_OUT = "{} bytes behind the input's samples are no sound, and are left out"
_TEXT = bytes((*range(32, 127), *b"\t\r\n"))
_RUBBISH = 4096  # bytes behind the samples that are no sound, most likely; a block of a disk
_SEARCHED = 2**24  # bytes at the end of a file in which its last chunks begin
_AT_ONCE = 2**20
# By the kind in the chunk `fmt `: samples per channel in a block, and kinds that say it themselves
_ONE_A_BLOCK, _SAID = (0x1, 0x3, 0x6, 0x7, 0xFFFE), (0x2, 0x11, 0x31)


@dataclass(frozen=True)
class Wav:
    """A WAV file as it is.

    chunks: all but the samples. stated: bytes of samples, as the header says. at, size: where they
    are, and their bytes. left: bytes behind all that, which are neither sound nor chunks. block:
    bytes of a block; frames_per_block: samples per channel in it, 0 where that is not known. order:
    of a number's bytes, "<" or ">".
    """

    chunks: list[Chunk]
    stated: int
    at: int
    size: int
    left: int
    block: int
    frames_per_block: int
    order: str

    @property
    def longer(self) -> bool:
        """Whether the samples go on behind the size in the header, or end before it."""
        return self.size != self.stated

    @property
    def is_from_a_pipe(self) -> bool:
        """Whether the header's size means nothing, by itself."""
        return self.stated == 0 or is_of_a_pipe(self.stated)

    def frames(self, size: int) -> int | None:
        """Samples per channel in so many bytes; None where that is not known."""
        return size // self.block * self.frames_per_block if self.frames_per_block else None


def is_wav(file: BinaryIO) -> bool:
    file.seek(0)
    begin = file.read(12)
    return begin[:4] in _ORDERS and begin[8:] == b"WAVE"


def layout(path: Path) -> Wav | None:
    """What is where; None for files that are no WAV, or that promise more than they hold.

    Raises InputError for files that were joined into one.
    """
    with open(path, "rb") as file:
        if not is_wav(file):
            return None
        before, samples, order = front(file)
        if samples is None:
            return None
        _, at, stated = samples
        end = file.seek(0, os.SEEK_END)
        behind, stop = behind_samples(file, at + stated, end, order)
        if any(name in _ORDERS for name, *_ in behind):
            raise InputError(path, "holds several recordings, joined into one file", "split them")
        size, left = stated, max(0, end - stop)
        pipe = stated == 0 or is_of_a_pipe(stated)
        if at + stated > end and not pipe:
            return None
        if at + stated > end or left and (pipe or not is_rubbish(file, behind, stop, end)):
            behind, last = last_chunks(file, at, end, order)
            size, left = _unwrapped(at, stated, last, pipe) - at, 0
        block, frames_per_block = _blocks(file, before, order)
        return Wav([*before, *behind], stated, at, size, left, block, frames_per_block, order)


def is_of_a_pipe(size: int) -> bool:
    return any(abs(size - pipe) <= PIPE_TOLERANCE for pipe in PIPE_SIZES)


def _unwrapped(at: int, stated: int, end: int, pipe: bool) -> int:
    """Where the samples end, if not at `end`: the header may lack the upper bits of their size."""
    more = (end - at - stated) // _WRAP * _WRAP
    return at + stated + more if more > 0 and not pipe else end


def front(file: BinaryIO) -> tuple[list[Chunk], Chunk | None, str]:
    """The chunks before the samples, that of the samples, and the order of bytes."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    order, at, chunks = _ORDERS[file.read(4)], 12, list[Chunk]()
    long: int | None = None
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack(f"{order}4sI", file.read(8))
        if name == b"ds64":
            long = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"data":
            return chunks, (name, at + 8, long if size == _LONG and long else size), order
        chunks.append((name, at + 8, size))
        at = _next(file, at + 8 + size, size, end, order)
    return chunks, None, order


def _next(file: BinaryIO, at: int, size: int, end: int, order: str) -> int:
    """Where the chunk behind one of this size begins; some writers forget the byte of padding."""
    if size % 2 == 0 or at >= end:
        return at
    return (
        at if chunk_at(file, at, end, order) and not chunk_at(file, at + 1, end, order) else at + 1
    )


def chunk_at(file: BinaryIO, at: int, end: int, order: str) -> Chunk | None:
    """That at a place; None where there is none."""
    if at + 8 > end:  # perhaps by more than a file may have
        return None
    file.seek(at)
    head = file.read(8)
    if not _NAME.match(head):
        return None
    size = struct.unpack(f"{order}4xI", head)[0]
    return (head[:4], at + 8, size) if at + 8 + size <= end else None


def _walk(file: BinaryIO, at: int, end: int, order: str) -> tuple[list[Chunk], int]:
    """The chunks from a place on, and where they end: at `end`, or at what is none."""
    chunks = []
    while chunk := chunk_at(file, at, end, order):
        chunks.append(chunk)
        at = _next(file, chunk[1] + chunk[2], chunk[2], end, order)
    return chunks, min(at, end)


def behind_samples(file: BinaryIO, at: int, end: int, order: str) -> tuple[list[Chunk], int]:
    """The same behind the samples, where chunks that end early may be sound."""
    at = min(_next(file, at, at, end, order), end) if at <= end else at
    chunks, stop = _walk(file, at, end, order)
    if stop < end and not (chunks and _BEHIND.fullmatch(chunks[0][0])):
        return [], min(at, end)
    return chunks, stop


def last_chunks(file: BinaryIO, at: int, end: int, order: str) -> tuple[list[Chunk], int]:
    """The chunks that end with the file, and where they begin."""
    start = max(at, end - _SEARCHED)
    file.seek(start)
    content = file.read()
    for place in _BEHIND.finditer(content):
        chunks, stop = _walk(file, start + place.start(), end, order)
        if chunks and stop == end:
            return chunks, start + place.start()
    return [], end


def is_rubbish(file: BinaryIO, behind: list[Chunk], at: int, end: int) -> bool:
    """Whether what lies at the end of the file is no sound: little, tags, text, or zeros."""
    file.seek(at)
    begin = file.read(_RUBBISH)
    if end - at <= _RUBBISH or behind or begin.startswith(_TAGS) or _BEHIND.match(begin):
        return True
    if not begin.translate(None, _TEXT):
        return True
    file.seek(at)
    while piece := file.read(_AT_ONCE):
        if any(piece):
            return False
    return True


def _blocks(file: BinaryIO, chunks: list[Chunk], order: str) -> tuple[int, int]:
    """Bytes of a block, and the samples per channel in it, 0 where that is not known."""
    for name, at, _ in chunks:
        if name == b"fmt ":
            file.seek(at)
            head = file.read(20).ljust(20, b"\0")
            kind, block, said = struct.unpack(f"{order}H10xH4xH", head)
            frames = 1 if kind in _ONE_A_BLOCK else said if kind in _SAID else 0
            return (block, frames) if block else (1, 0)
    return 1, 0
