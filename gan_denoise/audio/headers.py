"""What the bytes of an audio file tell about its length.

They are read where libsndfile's count cannot be believed.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

import soundfile as sf

from gan_denoise.audio import riff, stale
from gan_denoise.errors import InputError

_CODED = ("GSM610", "MPEG_LAYER_III")  # in WAV, where libsndfile adds a block
_UNKNOWN_FRAMES = 2**48  # more than any file has: libsndfile's word for a FLAC without a count
# libsndfile's log, which alone tells what the header said: "data : 617400 (should be 99956)"
_SIZE = re.compile(r"^ *(?:RIFF|FORM|data|SSND)[^:\n]*: (\d+)(?: \(should be (\d+))?", re.MULTILINE)
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
    if file.format in ("WAV", "WAVEX", "RF64") and (wav := riff.layout(path)) and wav.longer:
        if _joined(path, "WAV"):
            raise InputError(path, "holds several recordings, joined into one file", "split them")
        frames = wav.frames(wav.size)
        return Promise(frames, limit=frames, beyond=True)
    if file.format == "AIFF" and _from_a_pipe(file):
        return Promise()
    return Promise() if file.subtype in _CODED and not shortened(file) else None


def shortened(file: sf.SoundFile) -> bool:
    """Whether the header promised more than the file holds, which libsndfile repairs."""
    return any(there and int(there) < int(said) for said, there in _SIZE.findall(file.extra_info))


def _from_a_pipe(file: sf.SoundFile) -> bool:
    """Whether the sizes in the header are those that a pipe left behind."""
    sizes = [int(size) for size, _ in _SIZE.findall(file.extra_info)]
    return any(
        abs(size - pipe) <= riff.PIPE_TOLERANCE for size in sizes for pipe in riff.PIPE_SIZES
    )


def remarks(path: Path) -> list[str]:
    """What is to be known of how a file is read: its samples do not end where it says so."""
    wav, told = riff.layout(path), []
    if wav is None:
        old = stale.look(path)
        return [old.remark] if old else []
    stated, frames = wav.frames(wav.stated), wav.frames(wav.size)
    if wav.longer and not wav.is_from_a_pipe and frames is not None:
        told.append(
            f"the input's header tells of {stated} samples, and all {frames} that are there are"
            " read"
        )
    if wav.left:
        told.append(riff.LEFT_OUT.format(wav.left))
    return told


def check_avi(path: Path) -> None:
    """Raises InputError for an AVI file that is cut: FFmpeg passes over what is missing."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8)[4:], "little")
    if size + 8 > path.stat().st_size and not riff.is_of_a_pipe(size):
        raise InputError(path, "truncated, it is shorter than it says", "replace or remove it")


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
