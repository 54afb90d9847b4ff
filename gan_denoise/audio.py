"""Audio files and sample rates (soundfile, soxr): whatever a user hands over is read here, with all
checks, and what is made for users is written here. headers.py and decoding.py are its two tools;
segments.py reads excerpts of files that the recipe has checked or written, without these checks.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from gan_denoise.arrays import MAX_CHANNELS
from gan_denoise.decoding import open_decoder
from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically, writing

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


class Reader:
    """An audio file, opened and checked; a context manager.

    sample_rate: Hz. frames: samples per channel, which is an estimate where only decoding tells
    (MP3 without a Xing header). format, subtype: in libsndfile's words. plain: whether libsndfile
    alone reads it right, from any sample on. dtype: of the samples, "float32" or "float64", full
    scale is 1.0. Raises InputError when the file is missing, no audio, empty, truncated, damaged,
    or holds NaN or infinite samples.
    """

    def __init__(self, path: str | Path, *, dtype: str = "float32"):
        self._path = path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder, a file is needed: name one")
        if not path.exists():
            raise InputError(f"{path}: no such file: check the path")
        if not path.is_file():
            raise InputError(
                f"{path}: is a pipe or a device, not a file: write the audio to a file first"
            )
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes): replace or remove it")
        self._decoder = decoder = open_decoder(path, dtype=dtype)
        self._any = False
        self.sample_rate, self.channels, self.frames = (
            decoder.sample_rate,
            decoder.channels,
            decoder.frames,
        )
        self.format, self.subtype, self.plain = decoder.format, decoder.subtype, decoder.plain

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self._decoder.close()

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """What is left, in pieces of `frames` samples, the last one shorter: (n, channels) each."""
        while len(samples := self._decoder.read(frames)):
            if not np.isfinite(samples).all():
                raise InputError(
                    f"{self._path}: holds NaN or infinite samples: replace or remove it"
                )
            self._any = True
            yield samples
        if not self._any:
            raise InputError(f"{self._path}: holds no samples: replace or remove it")


def read(path: str | Path, *, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """Read and check a whole file: (samples (T, channels) in `dtype`, sample_rate). Raises
    InputError as `Reader` does.
    """
    with Reader(path, dtype=dtype) as reader:
        return np.concatenate(list(reader.blocks(_READ_AT_ONCE))), reader.sample_rate


def read_mono(
    path: str | Path, *, sample_rate: int | None = None, dtype: str = "float32"
) -> tuple[np.ndarray, int]:
    """Read a mono file, at `sample_rate` Hz where given (resampled if need be).

    Returns (samples (T,), sample_rate). Raises InputError for several channels, and as `read` does.
    """
    samples, rate = read(path, dtype=dtype)
    if samples.shape[1] != 1:
        raise InputError(
            f"{path}: has {samples.shape[1]} channels, one is needed: mix it down or pick one first"
        )
    samples = samples[:, 0]
    if sample_rate is not None and rate != sample_rate:
        samples, rate = resample(samples, rate, sample_rate), sample_rate
    return samples, rate


def resample(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Band-limited resampling (soxr, very high quality), aligned in time: (T,) or (T, channels) ->
    ceil(T * out / in).

    Raises InputError for more than 1024 channels, with which soxr may crash.
    """
    if rate_in == rate_out:
        return samples
    if samples.ndim > 1 and samples.shape[1] > MAX_CHANNELS:
        raise InputError(
            f"expected samples of shape (T,) or (T, channels), found {samples.shape}: transpose"
            " them"
        )
    length = -(-len(samples) * rate_out // rate_in)
    resampled = soxr.resample(samples, rate_in, rate_out, quality="VHQ")[:length]
    missing = length - len(resampled)
    return (
        np.pad(resampled, [(0, missing)] + [(0, 0)] * (resampled.ndim - 1))
        if missing
        else resampled
    )


def to_pcm16(samples: np.ndarray) -> np.ndarray | None:
    """Float samples rounded to int16, or None where they exceed full scale and would clip."""
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * 32768.0)
    if len(scaled) and (scaled.max() > 32767 or scaled.min() < -32768):
        return None
    return scaled.astype(np.int16)


def write_wav(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write (T,) or (T, channels) float samples as WAV PCM 16, or as 32-bit float where they exceed
    full scale.

    The file appears whole or not at all. Raises OSError.
    """
    pcm = to_pcm16(samples)
    buffer = io.BytesIO()
    if pcm is None:
        sf.write(
            buffer,
            np.asarray(samples, dtype=np.float32),
            sample_rate,
            format="WAV",
            subtype="FLOAT",
        )
    else:
        sf.write(buffer, pcm, sample_rate, format="WAV", subtype="PCM_16")
    write_atomically(path, buffer.getvalue())


class Writer:
    """An audio file to be written block by block; a context manager. The file appears whole at the
    end or, when the block raises, not at all.

    The container is that of the path's suffix; the subtype is that of the file which this one is
    made from or, where that container does not hold it, the nearest one. What is beyond the full
    scale of an integer subtype is clipped; `notes` tells of both. Raises InputError for a container
    that cannot hold this rate and number of channels, OSError where it cannot be written.
    """

    def __init__(self, path: str | Path, like: Reader):
        self._path, self._like, self._clipped = Path(path), like, 0
        self._format, self._subtype = _container(self._path, like)
        self._bits = _BITS.get(self._subtype)

    def __enter__(self) -> Writer:
        with contextlib.ExitStack() as stack:
            self._sink = _Sink(stack.enter_context(writing(self._path)))
            try:
                self._file = sf.SoundFile(
                    self._sink,
                    "w",
                    self._like.sample_rate,
                    self._like.channels,
                    self._subtype,
                    format=self._format,
                )
            except (sf.LibsndfileError, RuntimeError) as error:
                self._sink.check()
                reason = str(getattr(error, "error_string", error)).rstrip(".")
                remedy = (
                    "convert the input first"
                    if self._format == "WAV"
                    else "choose another suffix, such as .wav"
                )
                raise InputError(
                    f"{self._path}: {self._format} cannot hold {self._like.channels} channels at"
                    f" {self._like.sample_rate} Hz ({reason}): {remedy}"
                ) from error
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised) -> None:
        self._stack.__exit__(*raised)

    def _close(self, *_) -> None:
        self._file.close()
        self._sink.check()

    @property
    def notes(self) -> list[str]:
        """What is not as in the input, one line each."""
        notes = []
        if self._subtype != self._like.subtype:
            notes.append(
                f"{self._path}: written as {self._subtype}, since {self._format} is no place for"
                f" {self._like.subtype}"
            )
        if self._clipped:
            notes.append(
                f"{self._path}: {self._clipped} samples were beyond full scale and are clipped"
            )
        return notes

    def write(self, samples: np.ndarray) -> None:
        """(n, channels) float samples."""
        for start in range(0, len(samples), _WRITTEN_AT_ONCE):
            piece = samples[start : start + _WRITTEN_AT_ONCE]
            try:
                self._file.write(
                    np.asarray(piece, dtype=np.float32)
                    if self._bits is None
                    else self._quantise(piece)
                )
            except (AssertionError, sf.LibsndfileError):  # what soundfile makes of a short write
                self._sink.check()
                raise
            self._sink.check()

    def _quantise(self, samples: np.ndarray) -> np.ndarray:
        """Rounded to the subtype's bits, in the upper bits of int32: libsndfile would round
        down.
        """
        assert self._bits is not None  # whoever calls has asked
        limit = 2 ** (self._bits - 1)
        scaled = np.rint(samples.astype(np.float64) * limit)
        clipped = np.clip(scaled, -limit, limit - 1)
        self._clipped += int(np.count_nonzero(scaled != clipped))
        return clipped.astype(np.int32) << (32 - self._bits)


class _Sink:
    """A file for libsndfile, which cannot pass a Python error on: kept until `check` raises it."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._error: OSError | None = None
        self.read, self.tell = file.read, file.tell

    def write(self, content: bytes) -> int:
        return self._keep(lambda: self._file.write(content))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:  # it writes what is buffered
        return self._keep(lambda: self._file.seek(offset, whence))

    def _keep(self, call: Callable[[], int]) -> int:
        try:
            return 0 if self._error else call()
        except OSError as error:
            self._error = error
            return 0

    def check(self) -> None:
        if self._error:
            raise self._error


_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}
# Where FLAC and the like lack a subtype: what loses least of it
_WIDER = {
    "PCM_U8": ("PCM_S8",),
    "PCM_S8": ("PCM_U8",),
    **dict.fromkeys(("PCM_32", "FLOAT", "DOUBLE", "ALAC_20", "ALAC_24", "ALAC_32"), ("PCM_24",)),
}
_READ_AT_ONCE = 2**20  # samples per channel
# Samples; the OGG encoder of libsndfile puts what it is given on the stack
_WRITTEN_AT_ONCE = 2**16
_WAV_LIMIT = 2**32 - 2**16  # bytes


def _container(path: Path, like: Reader) -> tuple[str, str]:
    """libsndfile's format and subtype for a path. Raises InputError for a suffix that it does not
    know.
    """
    container = path.suffix[1:].upper()
    if container == "WAV" and like.format in ("WAVEX", "RF64"):
        container = like.format
    if container not in sf.available_formats() or container == "RAW":
        raise InputError(
            f"{path}: unknown suffix: name it {path.with_suffix('.wav').name}, or any of"
            f" {', '.join(SUFFIXES)}"
        )
    subtype = _nearest_subtype(container, like.subtype)
    if (
        container in ("WAV", "WAVEX")
        and like.frames * like.channels * _BITS.get(subtype, 64) / 8 > _WAV_LIMIT
    ):
        container = "RF64"  # the same layout with sizes of 64 bits
    return container, subtype


def _nearest_subtype(container: str, subtype: str) -> str:
    """The same, where the container stores it and a block of it holds one sample; else what loses
    least.
    """
    same = (
        [subtype]
        if subtype in (*_BITS, "FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III")
        else []
    )
    candidates = [*same, *_WIDER.get(subtype, ()), "PCM_16", sf.default_subtype(container)]
    if container in ("WAV", "WAVEX", "RF64"):
        # Listed, not written
        candidates = [candidate for candidate in candidates if candidate != "MPEG_LAYER_III"]
    return next(candidate for candidate in candidates if sf.check_format(container, candidate))


def find(folder: str | Path) -> list[Path]:
    """All audio files below a folder, sorted by their path in C order. Hidden files and folders are
    left out.
    """
    folder = Path(folder)
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = in_order(place, folders)
        for name in names:
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                found.append(path)
    return sorted(found, key=os.fsencode)


def in_order(place: str, folders: list[str]) -> list[str]:
    """The folders in a folder as they are looked into: links last, so that what can be reached in
    two ways has the same name everywhere, and hidden ones not.
    """
    shown = [name for name in folders if not name.startswith(".")]
    return sorted(shown, key=lambda name: (os.path.islink(os.path.join(place, name)), name))


def torchaudio():
    """Import torchaudio: the only place that does.

    Its public wheel links a C++ extension to CUDA libraries that a CPU build of torch lacks, so the
    plain import dies with OSError there. The parts in Python need no extension: with a stand-in for
    it, they work beside any torch.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stand_in = types.ModuleType("torchaudio._extension")
        vars(stand_in)["_IS_TORCHAUDIO_EXT_AVAILABLE"] = False
        vars(stand_in)["fail_if_no_align"] = lambda function: function
        sys.modules["torchaudio._extension"] = stand_in
        import torchaudio
    return torchaudio
