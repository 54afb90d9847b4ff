"""Audio files that are made from others keep the others' form where they can.

The form is the container, the subtype, the bit rate and the tags. A note tells what could not be
kept.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf

from gan_denoise.audio import SUFFIXES, Reader, headers, tags
from gan_denoise.errors import InputError
from gan_denoise.system.files import undisturbed, writing


class Writer:
    """An audio file to be written block by block; a context manager.

    The file appears whole at the end or, when the block raises, not at all.

    The container is that of the path's suffix. The subtype is that of the file which this one is
    made from or, where that container does not hold it, the nearest one. A coded file has at least
    the other's bit rate, or the best that its own format has. Tags are kept. What is beyond the
    full scale of an integer subtype is clipped. `notes` tells what is not as it was.

    subtype: another one, in libsndfile's words. Raises InputError for a container that cannot hold
    this rate and number of channels, OSError where the file cannot be written.
    """

    def __init__(self, path: str | Path, like: Reader, *, subtype: str | None = None):
        self._path, self._like, self._clipped = Path(path), like, 0
        self._format, self._subtype = _kind(self._path, like, subtype)
        self._asked = subtype is not None
        self._bits = _BITS.get(self._subtype)
        self._lost: list[str] = []
        self._remarks: list[str] = []

    def __enter__(self) -> Writer:
        with contextlib.ExitStack() as stack:
            self._content = stack.enter_context(writing(self._path))
            self._sink = _Sink(self._content)
            kind = (self._like.sample_rate, self._like.channels, self._subtype)
            try:
                options = _rate_options(*kind, self._like.bit_rate)
                with undisturbed():
                    self._file = sf.SoundFile(
                        self._sink, "w", *kind, format=self._format, **options
                    )
                    stack.push(self._close)
            except (sf.LibsndfileError, RuntimeError) as error:
                self._sink.check()
                reason = str(getattr(error, "error_string", error)).rstrip(".")
                remedy = (
                    "convert the input first"
                    if self._format == "WAV"
                    else "choose another suffix, such as .wav"
                )
                raise InputError(
                    self._path,
                    f"{self._format} cannot hold {self._like.channels} channels at"
                    f" {self._like.sample_rate} Hz ({reason})",
                    remedy,
                ) from error
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    def _close(self, *raised: Any) -> None:
        with undisturbed():
            self._file.close()
        self._sink.check()
        if raised[0] is None:
            self._remarks = headers.remarks(self._like.path)
            self._lost = tags.keep(self._like.path, self._content)

    @property
    def notes(self) -> list[str]:
        """What is not as in the input, one line each."""
        notes = [f"{self._path}: {remark}" for remark in self._remarks]
        if self._like.tracks > 1:
            notes.append(
                f"{self._path}: the input holds {self._like.tracks} audio tracks, of which this is"
                " the first"
            )
        if self._subtype != self._like.subtype and not self._asked:
            notes.append(
                f"{self._path}: written as {self._subtype}, since {self._format} is no place for"
                f" {self._like.subtype}"
            )
        if self._lost:
            notes.append(
                f"{self._path}: {self._format} has no place for the input's"
                f" {', '.join(self._lost)}, which are left out"
                if tags.WITHOUT_MUTAGEN not in self._lost
                else f"{self._path}: {', '.join(self._lost)} are left out: pip install mutagen"
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
            exact = (
                np.asarray(piece, dtype=np.float32) if self._bits is None else self._quantise(piece)
            )
            try:
                with undisturbed():
                    self._file.write(exact)
            except (AssertionError, sf.LibsndfileError):  # what soundfile makes of a short write
                self._sink.check()
                raise
            self._sink.check()

    def _quantise(self, samples: np.ndarray) -> np.ndarray:
        """Round samples to the subtype's bits, which are the upper bits of int32.

        libsndfile would round down.
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
# Samples; the OGG encoder of libsndfile puts what it is given on the stack
_WRITTEN_AT_ONCE = 2**16
_WAV_LIMIT = 2**32 - 2**16  # bytes


_MPEG_KBITS = {  # of MPEG 1, 2 and 2.5, whose lowest sample rates are these
    32000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64),
}
# LAME's tag, which a frame has to hold: it tells readers how much of the signal is padding
_TAG_BYTES = 192
_OPUS_BITS = (6000, 256000)  # per second and channel, between which libsndfile chooses
_LEVELS = tuple(level / 10 for level in range(11))  # libsndfile's: 0 the best
_WORST = 0.999  # libsndfile refuses 1 for MP3
# Further names of libsndfile's containers
_SUFFIXES = {"AIF": "AIFF", "AIFC": "AIFF", "BWF": "WAV", "OGA": "OGG", "OPUS": "OGG"}
_SUFFIXES |= {"SND": "AU", "WAVE": "WAV"}


def _rate_options(sample_rate: int, channels: int, subtype: str, bit_rate: float) -> dict[str, Any]:
    """What libsndfile is told, so that a coded file has at least this bit rate, or its best."""
    if subtype == "MPEG_LAYER_III":
        kbits = next(kbits for lowest, kbits in _MPEG_KBITS.items() if sample_rate >= lowest)
        frame_s = (1152 if sample_rate >= 32000 else 576) / sample_rate
        least = max(0.99 * bit_rate, 8 * _TAG_BYTES / frame_s)
        chosen = next((kbit for kbit in kbits if 1000 * kbit >= least), kbits[-1])
        level = (kbits[-1] - chosen) / (kbits[-1] - kbits[0])
        return {"bitrate_mode": "CONSTANT", "compression_level": min(level, _WORST)}
    if subtype == "OPUS":
        low, high = (channels * bits for bits in _OPUS_BITS)
        return {"compression_level": min(_WORST, max(0.0, (high - bit_rate) / (high - low)))}
    if subtype == "VORBIS":
        enough = (
            level
            for level in reversed(_LEVELS)
            if _vorbis_bits(sample_rate, channels, level) >= bit_rate
        )
        return {"compression_level": next(enough, _LEVELS[0])}
    return {}


@functools.cache
def _vorbis_bits(sample_rate: int, channels: int, level: float) -> int:
    """The bit rate that the encoder names in its header for a level."""
    buffer = io.BytesIO()
    with undisturbed():
        silence = np.zeros((0, channels), dtype=np.float32)
        options: Any = {"format": "OGG", "subtype": "VORBIS", "compression_level": level}
        sf.write(buffer, silence, sample_rate, **options)
    header = buffer.getvalue()
    at = header.index(b"\x01vorbis") + 20
    return int.from_bytes(header[at : at + 4], "little")


def container(suffix: str) -> str | None:
    """libsndfile's name for what a suffix stands for; None where it writes no such files."""
    name = suffix[1:].upper()
    name = _SUFFIXES.get(name, name)
    return name if name in sf.available_formats() and name != "RAW" else None


def check_suffix(path: Path) -> str:
    """libsndfile's name for what is written to a path. Raises InputError where it has none."""
    kind = container(path.suffix)
    if not kind:
        raise InputError(
            path,
            "unknown suffix",
            f"name it {path.with_suffix('.wav').name}, or any of {', '.join(SUFFIXES)}",
        )
    return kind


def _kind(path: Path, like: Reader, asked: str | None) -> tuple[str, str]:
    """libsndfile's format and subtype for a path.

    Raises InputError for a suffix that libsndfile does not know.
    """
    kind = check_suffix(path)
    if kind == "WAV" and like.format in ("WAVEX", "RF64"):
        kind = like.format
    opus = path.suffix.lower() == ".opus"
    subtype = asked or ("OPUS" if opus else _nearest_subtype(kind, like.subtype))
    if (
        kind in ("WAV", "WAVEX")
        and like.frames * like.channels * _BITS.get(subtype, 64) / 8 > _WAV_LIMIT
    ):
        kind = "RF64"  # the same layout with sizes of 64 bits
    return kind, subtype


def _nearest_subtype(kind: str, subtype: str) -> str:
    """The same subtype where the container can store it, else the one that loses least.

    A subtype that packs several samples into a block, such as ADPCM, is replaced too.
    """
    same = (
        [subtype]
        if subtype in (*_BITS, "FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III")
        else []
    )
    candidates = [*same, *_WIDER.get(subtype, ()), "PCM_16", sf.default_subtype(kind)]
    if kind in ("WAV", "WAVEX", "RF64"):
        # Listed, not written
        candidates = [candidate for candidate in candidates if candidate != "MPEG_LAYER_III"]
    return next(candidate for candidate in candidates if sf.check_format(kind, candidate))
