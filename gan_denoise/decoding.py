"""Decoders behind `audio.Reader`: which one reads a file to its true end, and what is lost there.

libsndfile reads what is stored sample by sample, and FLAC: there the header's count holds. It stops
early, or passes over a loss, where a count is missing, estimated or wrong: MP3 without a Xing
header, files joined by `cat`, headers that a pipe left unfinished, the blocks of ADPCM and GSM,
damaged OGG. FFmpeg (by PyAV) reads those until nothing comes any more. Neither holds a file in
memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf

from gan_denoise.arrays import to_float
from gan_denoise.errors import InputError

_DEMUXERS = "aiff,au,flac,mp3,ogg,w64,wav"  # none that opens other files, as playlists do
_CODED = re.compile("ADPCM|GSM|G72|MPEG|VORBIS")
_LAYERS = {"mp3": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II", "mp1": "MPEG_LAYER_I"}
# Sizes that writers leave in the header of a pipe: sox and arecord, ffmpeg, sox in AIFF
_PIPE_SIZES, _PIPE_TOLERANCE = (2**31, 2**32 - 1, 0x7F000000), 8192
# libsndfile's log, which alone tells what the header said: "data : 617400 (should be 99956)"
_SIZE = re.compile(r"^ *(?:RIFF|FORM|data|SSND)[^:\n]*: (\d+)( \(should be)?", re.MULTILINE)
# How a file of the kind begins; a second beginning within it was joined on
_BEGINS = {
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "OGG": re.compile(rb"OggS\x00[\x02\x03]"),
    "WAV": re.compile(rb"RIFF.{4}WAVEfmt ", re.DOTALL),
}
# The number of frames in an MP3's first frame (Xing header, flag 1)
_XING = re.compile(rb"(?:Xing|Info)\x00\x00\x00[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.DOTALL)
_XING_REACH = 4096
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")
_GAP_S = 0.1  # a tag between joined files takes less from the time of the frames, a lost page more


class Decoder(Protocol):
    """sample_rate: Hz. frames: samples per channel, within some padding. format, subtype: in libsndfile's words."""

    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (n, channels); n < frames at the end only. Raises InputError for a loss."""
        ...

    def close(self) -> None: ...


def open_decoder(path: Path, *, dtype: str) -> Decoder:
    """The decoder for a file that is not empty. dtype: of the samples, "float32" or "float64", full scale is 1.0.

    Raises InputError for what is no audio, OSError where it cannot be read.
    """
    begin = _first_bytes(path)
    if begin[0] == 0xFF and begin[1] >= 0xE0:  # an MPEG frame
        found = _XING.search(begin)
        frames = struct.unpack(">I", found[1])[0] if found else None
        with contextlib.suppress(_Undecodable):
            return _Ffmpeg(path, dtype, mpeg_frames=frames)
    try:
        handle = os.open(path, os.O_RDONLY)  # by number: a name would be judged by its suffix
        file = sf.SoundFile(handle, closefd=True)
    except (sf.LibsndfileError, RuntimeError) as error:
        with contextlib.suppress(_Undecodable):
            decoder = _Ffmpeg(path, dtype)
            if not decoder.codec.startswith("pcm_"):  # those libsndfile refuses with good reason
                return decoder
            decoder.close()
        raise _bad(path, error) from error
    try:
        trusted = _trusted(path, file)
        if trusted is not None:
            return _Ffmpeg(path, dtype, like=file, promised=trusted or None)
    except _Undecodable:
        pass
    except BaseException:
        file.close()
        raise
    return _Libsndfile(path, file, dtype)


def _first_bytes(path: Path) -> bytes:
    """The file's beginning, without an ID3 tag; at least two bytes."""
    with open(path, "rb") as file:
        begin = file.read(10)
        if begin[:3] == b"ID3" and len(begin) == 10:  # its size: four times seven bits
            size = sum((byte & 127) << shift for byte, shift in zip(begin[6:], (21, 14, 7, 0), strict=True))
            file.seek(10 + size)
        else:
            file.seek(0)
        return file.read(_XING_REACH).ljust(2, b"\0")


def _trusted(path: Path, file: sf.SoundFile) -> int | None:
    """None where libsndfile reads the file whole; else the number of samples that are promised, 0 where nobody knows."""
    if file.format in ("FLAC", "OGG") and _joined(path, file.format):
        return 0
    if file.format == "OGG" and file.subtype == "VORBIS":
        return file.frames
    if _CODED.search(file.subtype):
        return -1  # FFmpeg reads the header better
    if file.format == "FLAC" and file.frames >= 2**48:  # of a pipe
        return 0
    if file.format in ("WAV", "WAVEX", "AIFF") and _unfinished(path, file):
        if _joined(path, "WAV"):
            raise InputError(f"{path}: holds several recordings, joined to one file: split them")
        return 0
    return None


def _unfinished(path: Path, file: sf.SoundFile) -> bool:
    """Whether the sizes in the header are those that a pipe left behind."""
    sizes = [int(size) for size, _ in _SIZE.findall(file.extra_info)]
    if any(abs(size - pipe) <= _PIPE_TOLERANCE for size in sizes for pipe in _PIPE_SIZES):
        return True
    with open(path, "rb") as content:
        (riff_size,) = struct.unpack("<4xI", content.read(8))
    # No samples, and yet more bytes than the header knows of
    return file.frames == 0 and file.format != "AIFF" and riff_size + 8 < path.stat().st_size


def _joined(path: Path, kind: str) -> bool:
    with (
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return _BEGINS[kind].search(content, 4) is not None


def _bad(path: Path, error: Exception) -> InputError:
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    return InputError(f"{path}: cannot be decoded ({reason}): truncated or not audio: replace or remove it")


def _truncated(path: Path) -> InputError:
    return InputError(f"{path}: truncated, the header promises more samples than there are: replace or remove it")


class _Undecodable(Exception):
    """FFmpeg does not know this kind of file."""


class _Libsndfile:
    """libsndfile, forwards only: in some formats it cannot seek, nor tell where it is."""

    def __init__(self, path: Path, file: sf.SoundFile, dtype: str):
        self._path, self._file, self._dtype, self._position = path, file, dtype, 0
        self.sample_rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
        self.format, self.subtype = file.format, file.subtype
        # It repairs a header that promises more than the file holds
        self._shortened = any(repaired for _, repaired in _SIZE.findall(file.extra_info))

    def read(self, frames: int) -> np.ndarray:
        wanted = min(frames, self.frames - self._position)
        try:
            samples = self._file.read(wanted, dtype=self._dtype, always_2d=True)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise _bad(self._path, error) from error
        self._position += len(samples)
        if len(samples) < wanted or self._shortened:
            raise _truncated(self._path)
        return samples

    def close(self) -> None:
        self._file.close()


class _Ffmpeg:
    """FFmpeg until the file's end.

    like: libsndfile's view of the file. promised: samples that must be there and beyond which there is padding; -1: what
    FFmpeg reads in the header; None: unknown. mpeg_frames: the same in MPEG frames. Raises _Undecodable.
    """

    def __init__(
        self,
        path: Path,
        dtype: str,
        *,
        like: sf.SoundFile | None = None,
        promised: int | None = -1,
        mpeg_frames: int | None = None,
    ):
        import av  # by those who need it

        self._av, self._path, self._dtype = av, path, dtype
        self._exit = contextlib.ExitStack()
        self._container = self._exit.enter_context(self._opened())
        stream = self._container.streams.audio[0]
        self.codec = stream.codec_context.codec.name
        self.sample_rate, self.channels = stream.sample_rate, stream.layout.nb_channels
        self.format = like.format if like else self._container.format.name.upper()
        name = self.codec.removesuffix("float")
        self.subtype = like.subtype if like else _LAYERS.get(name, name.upper())
        self._promised, self._limit = promised, promised if promised and promised > 0 else None
        self.frames = self._limit or self._count()
        if self._container.format.name == "mp3":
            self._promised = mpeg_frames and (mpeg_frames - 2) * stream.codec_context.frame_size
        elif promised == -1:
            self._promised = stream.duration and int(stream.duration * stream.time_base * stream.sample_rate)
        self._decoded, self._damaged_at_s, self._undecodable_at_s = 0, None, None
        self._pieces, self._waiting = self._decode(), np.zeros((0, self.channels), dtype=dtype)

    @contextlib.contextmanager
    def _opened(self):
        with open(self._path, "rb") as content:  # a path might be taken for an address
            try:
                container = self._av.open(content, options={"format_whitelist": _DEMUXERS})
            except (self._av.FFmpegError, ValueError, UnicodeDecodeError) as error:
                raise _Undecodable from error
            with container:
                if not container.streams.audio or not container.streams.audio[0].sample_rate:
                    raise _Undecodable
                yield container

    def _count(self) -> int:
        """Samples per channel, as the packets tell without being decoded."""
        duration = 0
        with self._opened() as container:
            stream = container.streams.audio[0]
            with contextlib.suppress(self._av.FFmpegError):  # what is wrong is found when decoding
                for packet in container.demux(stream):
                    duration += packet.duration or 0
            return int(duration * stream.time_base * stream.sample_rate)

    def read(self, frames: int) -> np.ndarray:
        pieces, there = [self._waiting], len(self._waiting)
        while there < frames and (piece := next(self._pieces, None)) is not None:
            pieces.append(piece)
            there += len(piece)
        samples = np.concatenate(pieces)
        self._waiting = samples[frames:].copy()
        if there < frames:
            self._check()
        return samples[:frames]

    def _check(self) -> None:
        """At the end: was anything lost? Rubbish behind all that was promised is none."""
        whole = self._promised is not None and self._decoded >= self._promised
        at_s = self._undecodable_at_s if self._damaged_at_s is None and not whole else self._damaged_at_s
        if at_s is not None:
            raise InputError(f"{self._path}: damaged at {at_s:.1f} s, where samples are lost: repair or remove it")
        if self._promised is not None and not whole:
            raise _truncated(self._path)

    def _decode(self) -> Iterator[np.ndarray]:
        expected_s, last_pos = None, 0
        for packet in self._container.demux(self._container.streams.audio[0]):
            now_s = self._decoded / self.sample_rate
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                if self._undecodable_at_s is None and not self._no_audio(packet, last_pos):
                    self._undecodable_at_s = now_s
                continue
            last_pos = packet.pos or last_pos
            for frame in frames:
                if (frame.sample_rate, frame.layout.nb_channels) != (self.sample_rate, self.channels):
                    raise InputError(
                        f"{self._path}: goes on with {frame.layout.nb_channels} channels at {frame.sample_rate} Hz "
                        f"after {now_s:.1f} s: split it there"
                    )
                jumps = None not in (frame.time, expected_s) and frame.time > expected_s + _GAP_S
                if self._damaged_at_s is None and (jumps or self._undecodable_at_s is not None):
                    self._damaged_at_s = now_s if jumps else self._undecodable_at_s
                if frame.time is not None:
                    expected_s = frame.time + frame.samples / frame.sample_rate
                samples = frame.to_ndarray()  # (channels, n) or (1, n * channels)
                samples = samples.T if frame.format.is_planar else samples.reshape(-1, self.channels)
                if self._limit is not None:
                    samples = samples[: max(0, self._limit - self._decoded)]
                self._decoded += len(samples)
                yield to_float(samples).astype(self._dtype)

    def _no_audio(self, packet, last_pos: int) -> bool:
        """Whether what cannot be decoded is padding, or a tag, as between files that were joined.

        last_pos: where the packet before it begins in the file; FFmpeg may have passed over the tag's first bytes.
        """
        if not any(bytes(packet)):
            return True
        with open(self._path, "rb") as file:
            file.seek(last_pos)
            content = file.read((packet.pos or last_pos) - last_pos + packet.size)
        return any(tag in content for tag in _TAGS)

    def close(self) -> None:
        self._exit.close()
