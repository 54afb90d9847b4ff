"""Audio files and sample rates (soundfile, soxr): all files that a user names are read here.

Every check of such a file is made here, with the help of headers.py and decoding.py. encoding.py
writes what is made of a file. segments.py reads excerpts of files that the recipe has checked or
written, and does without these checks.
"""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from gan_denoise.audio.decoding import open_decoder
from gan_denoise.errors import InputError
from gan_denoise.signal.arrays import MAX_CHANNELS, check_values
from gan_denoise.system.files import undisturbed, write_atomically

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
# All by which recordings are known; anything else that holds audio is read when it is named
READ = (
    *SUFFIXES,
    *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".bwf", ".caf"),
    *(".eac3", ".m4a", ".m4b", ".mka", ".mkv", ".mov", ".mp2", ".mp4", ".oga", ".opus", ".rf64"),
    *(".snd", ".tta", ".w64", ".wave", ".webm", ".wma", ".wv"),
)
_READ_AT_ONCE = 2**20  # samples per channel


class Reader:
    """An audio file, opened and checked; a context manager.

    sample_rate: Hz. frames: samples per channel, which is an estimate where only decoding tells
    (MP3 without a Xing header). format, subtype: in libsndfile's words. bit_rate: per second, of
    all that is stored, or as the header names it. plain: whether libsndfile alone reads it right,
    from any sample on. tracks: of audio, the first of which this is. dtype: of the samples,
    "float32" or "float64", full scale is 1.0. Raises InputError when the file is missing, no audio,
    empty, truncated, damaged, or holds NaN, infinite or far too loud samples.
    """

    def __init__(self, path: str | Path, *, dtype: str = "float32"):
        self.path = path = Path(path)
        check_file(path)
        self._decoder = decoder = open_decoder(path, dtype=dtype)
        self._any = False
        self.sample_rate, self.channels, self.frames = (
            decoder.sample_rate,
            decoder.channels,
            decoder.frames,
        )
        self.format, self.subtype, self.plain = decoder.format, decoder.subtype, decoder.plain
        self.tracks = decoder.tracks
        stored = 8 * path.stat().st_size * self.sample_rate / max(1, self.frames)
        # Of a short file most is header
        nominal = decoder.bit_rate if self.subtype == "VORBIS" else 0
        self.bit_rate = nominal or max(stored, decoder.bit_rate)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """What is left, in pieces of `frames` samples, the last one shorter: (n, channels) each."""
        while len(samples := self._decoder.read(frames)):
            check_values(samples, self.path, "replace or remove it")
            self._any = True
            yield samples
        if not self._any:
            raise InputError(self.path, "holds no samples", "replace or remove it")


def check_file(path: Path) -> None:
    """Raises InputError for what is no file with something in it."""
    if path.is_dir():
        raise InputError(path, "is a folder, a file is needed", "name one")
    if not path.exists():
        raise InputError(path, "no such file", "check the path")
    if not path.is_file():
        raise InputError(
            path, "is a pipe or a device, not a file", "write the audio to a file first"
        )
    if path.stat().st_size == 0:
        raise InputError(path, "the file is empty (0 bytes)", "replace or remove it")


def read(path: str | Path, *, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """Read and check a whole file: (samples (T, channels) in `dtype`, sample_rate).

    Raises InputError as `Reader` does.
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
            path, f"has {samples.shape[1]} channels, one is needed", "mix it down or pick one first"
        )
    samples = samples[:, 0]
    if sample_rate is not None and rate != sample_rate:
        samples, rate = resample(samples, rate, sample_rate), sample_rate
    return samples, rate


def resample(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample within the common band (soxr, very high quality), aligned in time.

    (T,) or (T, channels) -> ceil(T * out / in) samples. Raises InputError for more than 1024
    channels, with which soxr may crash.
    """
    if rate_in == rate_out:
        return samples
    if samples.ndim > 1 and samples.shape[1] > MAX_CHANNELS:
        raise InputError(
            f"expected samples of shape (T,) or (T, channels), found {samples.shape}",
            remedy="transpose them",
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
    """Write (T,) or (T, channels) float samples as WAV: PCM 16, or 32-bit float.

    The samples become float where they exceed full scale. The file appears whole or not at all.
    Raises OSError.
    """
    pcm = to_pcm16(samples)
    buffer, subtype = io.BytesIO(), "FLOAT" if pcm is None else "PCM_16"
    wave = np.asarray(samples, dtype=np.float32) if pcm is None else pcm
    with undisturbed():
        sf.write(buffer, wave, sample_rate, format="WAV", subtype=subtype)
    write_atomically(path, buffer.getvalue())


def find(folder: str | Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """All audio files below a folder, sorted by their path in C order.

    Hidden files and folders are left out. suffixes: those of audio files.
    """
    return [path for path in search(folder)[0] if path.suffix.lower() in suffixes]


def search(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """All files below a folder, and what cannot be read: both sorted by their path in C order.

    The latter are pipes, devices, links to nothing, and folders that this user may not open. Hidden
    files and folders are left out. Raises OSError where this user may not open the folder itself.
    """
    folder = Path(folder)
    files, unreadable, seen = list[Path](), list[Path](), set[str]()

    def refused(error: OSError) -> None:
        if isinstance(error, PermissionError) and Path(error.filename) == folder:
            raise error
        unreadable.append(Path(error.filename))

    for place, folders, names in os.walk(folder, onerror=refused, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = in_order(place, folders)
        for name in names:
            path = Path(place) / name
            if not name.startswith("."):
                (files if path.is_file() else unreadable).append(path)
    return sorted(files, key=os.fsencode), sorted(unreadable, key=os.fsencode)


def in_order(place: str, folders: list[str]) -> list[str]:
    """The sub-folders of a folder in the order in which they are searched, without hidden ones.

    Links come last: what can be reached in two ways then has the same name everywhere.
    """
    shown = [name for name in folders if not name.startswith(".")]
    return sorted(shown, key=lambda name: (os.path.islink(os.path.join(place, name)), name))


def torchaudio() -> types.ModuleType:
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
