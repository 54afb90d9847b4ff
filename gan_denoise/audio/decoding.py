"""Decoders behind `audio.Reader`: which one reads a file to its true end, and what is lost there.

libsndfile reads what is stored sample by sample, and FLAC: there the header's count holds. It stops
early, or passes over a loss, where a count is missing, estimated or wrong: MP3 without a Xing
header, files joined by `cat`, headers that a pipe left unfinished, GSM, damaged OGG. FFmpeg (by
PyAV) reads those until nothing comes any more. Neither holds a file in memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile as sf

from gan_denoise.audio import headers, stale
from gan_denoise.audio.headers import Promise
from gan_denoise.errors import InputError
from gan_denoise.signal.arrays import to_float

# None that opens other files, as playlists do
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav"
    ",wv"
)
# Those whose headers hold the true time of the end
_TIMED = ("asf", "caf", "flv", "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "wv")
_LAYERS = {"mp3": "MPEG_LAYER_III", "mp2": "MPEG_LAYER_II", "mp1": "MPEG_LAYER_I"}
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICS")
_GAP_S = 0.1  # a tag between joined files takes less from the time of the frames, a lost page more


class Decoder(Protocol):
    """What reads the samples of one audio file from its beginning to its end.

    sample_rate: Hz. frames: samples per channel, within some padding. format, subtype: in
    libsndfile's words. bit_rate: per second, as the stream's header gives it; 0 where the header
    has none. plain: whether libsndfile alone reads the file right, from any sample on. tracks: the
    number of audio tracks, of which the first is read.
    """

    tracks: int
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    bit_rate: int
    plain: bool

    def read(self, frames: int) -> np.ndarray:
        """The next samples, (n, channels); n < frames at the end only.

        Raises InputError where samples are lost.
        """
        ...

    def close(self) -> None: ...


def open_decoder(path: Path, *, dtype: str) -> Decoder:
    """The decoder for a file that is not empty.

    dtype: of the samples, "float32" or "float64", with 1.0 as full scale. Raises InputError for a
    file that is no audio, OSError where it cannot be read.
    """
    promise = headers.mpeg(path)
    if promise:
        with contextlib.suppress(_Undecodable):
            return _Ffmpeg(path, dtype, promise)
    try:
        file = _opened(path)
    except (sf.LibsndfileError, RuntimeError) as error:
        with contextlib.suppress(_Undecodable):
            decoder = _Ffmpeg(path, dtype, Promise())
            # What libsndfile knows it refuses with good reason
            if not (decoder.codec.startswith("pcm_") and decoder.in_libsndfile):
                return decoder
            decoder.close()
        raise _bad(path, error) from error
    with contextlib.ExitStack() as stack:
        stack.callback(file.close)
        promise = headers.doubtful(path, file)
        if promise:
            with contextlib.suppress(_Undecodable):
                return _Ffmpeg(path, dtype, promise, like=file)
        if file.subtype == "OPUS":
            with contextlib.suppress(_Undecodable):
                opus = _Ffmpeg(path, dtype, Promise(), like=file)
                if opus.late:  # such a beginning libsndfile gives too
                    return opus
                opus.close()
        stack.pop_all()
    return _Libsndfile(path, file, dtype)


def _opened(path: Path) -> sf.SoundFile:
    old = stale.look(path)
    if old and old.patches:
        return sf.SoundFile(stale.Patched(path, old.patches))
    # By number: a name would be judged by its suffix
    return sf.SoundFile(os.open(path, os.O_RDONLY), closefd=True)


def _bad(path: Path, error: Exception) -> InputError:
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    return InputError(
        path, f"cannot be decoded ({reason}): truncated or not audio", "replace or remove it"
    )


def _truncated(path: Path) -> InputError:
    return InputError(
        path, "truncated, the header promises more samples than there are", "replace or remove it"
    )


class _Undecodable(Exception):
    """FFmpeg does not know this kind of file."""


class _Libsndfile:
    """libsndfile, forwards only: in some formats it cannot seek, nor tell where it is."""

    def __init__(self, path: Path, file: sf.SoundFile, dtype: str):
        self._path, self._file, self._dtype, self._position = path, file, dtype, 0
        self.sample_rate, self.channels, self.frames = file.samplerate, file.channels, file.frames
        self.format, self.subtype = file.format, file.subtype
        old = stale.look(path)
        self.plain = file.seekable() and not (old and old.patches)
        self.bit_rate, self.tracks = 0, 1
        self._shortened = headers.shortened(file)

    def read(self, frames: int) -> np.ndarray:
        count = min(frames, self.frames - self._position)
        try:
            samples = self._file.read(count, dtype=self._dtype, always_2d=True)
        except (sf.LibsndfileError, RuntimeError) as error:
            raise _bad(self._path, error) from error
        self._position += len(samples)
        if len(samples) < count or self._shortened:
            raise _truncated(self._path)
        return samples

    def close(self) -> None:
        self._file.close()


class _Content:
    """A file for FFmpeg.

    A damaged header may ask for a place that no file has. What Python raises there PyAV prints, and
    may raise as if the disk was to blame.
    """

    def __init__(self, file: BinaryIO):
        self.name, self.read, self.tell, self._file = file.name, file.read, file.tell, file

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return -errno.EINVAL  # as FFmpeg has it


class _Ffmpeg:
    """FFmpeg until the file's end. like: libsndfile's view of the file. Raises _Undecodable."""

    plain = False

    def __init__(
        self, path: Path, dtype: str, promise: Promise, *, like: sf.SoundFile | None = None
    ):
        import av  # by those who need it

        self._av, self._path, self._dtype = av, path, dtype
        self._options = {"format_whitelist": DEMUXERS}
        if promise.beyond:
            self._options["ignore_length"] = "1"
        self._exit = contextlib.ExitStack()
        self._container = self._exit.enter_context(self._opened())
        self.tracks = len(self._container.streams.audio)
        stream = self._container.streams.audio[0]
        self.codec = stream.codec_context.codec.name
        self.sample_rate, self.channels = stream.sample_rate, stream.layout.nb_channels
        container = self._container.format.name.upper()
        if container == "AVI":
            headers.check_avi(path)
        self.in_libsndfile = container in sf.available_formats()
        # What libsndfile has no word for is WAV, which holds anything
        self.format = like.format if like else container if self.in_libsndfile else "WAV"
        self.subtype = like.subtype if like else self._subtype(stream.codec_context)
        self.bit_rate = stream.bit_rate or 0
        promise = self._timed(promise)
        self._promised, self._limit = promise.samples, promise.limit
        self._end_s: float | None = None
        if promise.end is not None:
            self._end_s = promise.end / self.sample_rate
        self.frames = promise.limit or self._count()
        self.late = bool(stream.start_time)
        self._decoded = 0
        self._time_s: float | None = None  # where the last frame ended
        self._damaged_at_s: float | None = None
        self._undecodable_at_s: float | None = None
        self._pieces, self._waiting = self._decode(), np.zeros((0, self.channels), dtype=dtype)

    def _subtype(self, coded: Any) -> str:
        """libsndfile's word for a codec: that of the bits where nothing is lost."""
        name = coded.codec.name.removesuffix("float")
        if not coded.codec.lossless:
            return _LAYERS.get(name, name.upper())
        deep = "PCM_32" if name.startswith("pcm_s32") else "PCM_24"
        bits = {"s32": deep, "s32p": deep, "flt": "FLOAT", "fltp": "FLOAT", "dbl": "DOUBLE"}
        return bits.get(getattr(coded.format, "name", ""), "PCM_16")  # of damage it has none

    def _timed(self, promise: Promise) -> Promise:
        """What the container's own clock adds to a promise."""
        if promise != Promise() or self._container.format.name not in _TIMED:
            return promise
        stream, rate = self._container.streams.audio[0], self.sample_rate
        if stream.duration:
            end = int(stream.duration * stream.time_base * rate)
            cuts = self._container.format.name.startswith("mov")  # the encoder's padding
            return Promise(limit=end if cuts else None, end=end)
        if len(self._container.streams) == 1 and self._container.duration:
            return Promise(end=int(self._container.duration / self._av.time_base * rate))
        return promise

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        with open(self._path, "rb") as content:  # a path might be taken for an address
            try:
                container = self._av.open(_Content(content), options=self._options)
            except (self._av.FFmpegError, ValueError, UnicodeDecodeError) as error:
                raise _Undecodable from error
            with container:
                streams = container.streams.audio
                # Of damage it has none
                if not streams or not getattr(streams[0], "sample_rate", 0):
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
        at_s = self._damaged_at_s
        if at_s is None and self._promised is None:
            at_s = self._undecodable_at_s
        if at_s is None and self._end_s and (self._time_s or 0.0) < self._end_s - _GAP_S:
            at_s = self._decoded / self.sample_rate
        if at_s is not None:
            raise InputError(
                self._path,
                f"damaged at {at_s:.1f} s, where samples are lost",
                "repair or remove it",
            )
        if self._promised is not None and self._decoded < self._promised:
            raise _truncated(self._path)

    def _decode(self) -> Iterator[np.ndarray]:
        last_pos = 0
        for packet in self._packets():
            now_s = self._decoded / self.sample_rate
            try:
                frames = packet.decode()
            except self._av.FFmpegError:
                if self._undecodable_at_s is None and not self._no_audio(packet, last_pos):
                    self._undecodable_at_s = now_s
                continue
            last_pos = packet.pos or last_pos
            for frame in frames:
                if (frame.sample_rate, frame.layout.nb_channels) != (
                    self.sample_rate,
                    self.channels,
                ):
                    raise InputError(
                        self._path,
                        f"goes on with {frame.layout.nb_channels} channels at"
                        f" {frame.sample_rate} Hz after {now_s:.1f} s",
                        "split it there",
                    )
                jumps = (
                    frame.time is not None
                    and self._time_s is not None
                    and frame.time > self._time_s + _GAP_S
                )
                if self._damaged_at_s is None and (jumps or self._undecodable_at_s is not None):
                    self._damaged_at_s = now_s if jumps else self._undecodable_at_s
                if frame.time is not None:
                    self._time_s = frame.time + frame.samples / frame.sample_rate
                samples = frame.to_ndarray()  # (channels, n) or (1, n * channels)
                samples = (
                    samples.T if frame.format.is_planar else samples.reshape(-1, self.channels)
                )
                if self._limit is not None:
                    samples = samples[: max(0, self._limit - self._decoded)]
                self._decoded += len(samples)
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # what is infinite then is refused
                    exact = to_float(samples).astype(self._dtype)
                yield exact

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(self._container.streams.audio[0])
        except self._av.FFmpegError:
            self._damaged_at_s = self._decoded / self.sample_rate

    def _no_audio(self, packet: Any, last_pos: int) -> bool:
        """Whether what cannot be decoded is padding, or a tag, as between files that were joined.

        last_pos: where the packet before it begins in the file; FFmpeg may have passed over the
        tag's first bytes.
        """
        if not any(bytes(packet)):
            return True
        with open(self._path, "rb") as file:
            file.seek(last_pos)
            content = file.read((packet.pos or last_pos) - last_pos + packet.size)
        return any(tag in content for tag in _TAGS)

    def close(self) -> None:
        self._exit.close()
