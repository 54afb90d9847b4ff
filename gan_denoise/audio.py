"""Audio files and sample rates: everything that is read or written goes through here (soundfile, soxr)."""

from __future__ import annotations

import io
import os
import sys
import types
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr

from gan_denoise.errors import InputError
from gan_denoise.files import write_atomically

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


def read(path: str | Path, *, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """Read and check a whole file.

    Returns (samples, sample_rate): samples (T, channels) in `dtype`, full scale is 1.0. Raises InputError when the
    file is missing, no audio, empty, truncated, or holds NaN or infinite samples.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: check the path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes): replace or remove it")
    try:
        with sf.SoundFile(path) as file:
            # libsndfile repairs a WAV header that promises more than the file holds, and only its log tells
            truncated = "(should be" in file.extra_info and file.format in ("WAV", "WAVEX", "AIFF")
            expected = file.frames
            samples = file.read(dtype=dtype, always_2d=True)
            sample_rate = file.samplerate
    except (sf.LibsndfileError, RuntimeError) as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise InputError(
            f"{path}: cannot be decoded ({reason}): truncated or not audio: replace or remove it"
        ) from error
    if expected == 0 or len(samples) == 0:
        raise InputError(f"{path}: holds no samples: replace or remove it")
    if truncated or len(samples) < expected:
        raise InputError(f"{path}: truncated, the header promises more samples than there are: replace or remove it")
    if not np.isfinite(samples).all():
        raise InputError(f"{path}: holds NaN or infinite samples: replace or remove it")
    return samples, sample_rate


def read_mono(path: str | Path, *, sample_rate: int | None = None, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """Read a mono file, at `sample_rate` Hz where given (resampled if need be).

    Returns (samples (T,), sample_rate). Raises InputError for several channels, and as `read` does.
    """
    samples, rate = read(path, dtype=dtype)
    if samples.shape[1] != 1:
        raise InputError(f"{path}: has {samples.shape[1]} channels, one is needed: mix it down or pick one first")
    samples = samples[:, 0]
    if sample_rate is not None and rate != sample_rate:
        samples, rate = resample(samples, rate, sample_rate), sample_rate
    return samples, rate


def resample(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Band-limited resampling (soxr, very high quality), aligned in time: (T,) or (T, channels) -> ceil(T * out / in)."""
    if rate_in == rate_out:
        return samples
    length = -(-len(samples) * rate_out // rate_in)
    resampled = soxr.resample(samples, rate_in, rate_out, quality="VHQ")[:length]
    missing = length - len(resampled)
    return np.pad(resampled, [(0, missing)] + [(0, 0)] * (resampled.ndim - 1)) if missing else resampled


def to_pcm16(samples: np.ndarray) -> np.ndarray | None:
    """Float samples rounded to int16, or None where they exceed full scale and would clip."""
    scaled = np.rint(np.asarray(samples, dtype=np.float64) * 32768.0)
    if len(scaled) and (scaled.max() > 32767 or scaled.min() < -32768):
        return None
    return scaled.astype(np.int16)


def write_wav(path: str | Path, samples: np.ndarray, sample_rate: int) -> None:
    """Write (T,) or (T, channels) float samples as WAV PCM 16, or as 32-bit float where they exceed full scale.

    The file appears whole or not at all. Raises OSError.
    """
    pcm = to_pcm16(samples)
    buffer = io.BytesIO()
    if pcm is None:
        sf.write(buffer, np.asarray(samples, dtype=np.float32), sample_rate, format="WAV", subtype="FLOAT")
    else:
        sf.write(buffer, pcm, sample_rate, format="WAV", subtype="PCM_16")
    write_atomically(path, buffer.getvalue())


def find(folder: str | Path) -> list[Path]:
    """All audio files below a folder, sorted by their path in C order. Hidden files and folders are left out."""
    folder = Path(folder)
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and path.is_file():
                if os.fsencode(path).decode("utf-8", "ignore") != str(path):
                    raise InputError(f"{os.fsencode(path)!r}: the file's name is not UTF-8: rename it")
                found.append(path)
    return sorted(found, key=lambda path: path.as_posix().encode())


def torchaudio():
    """Import torchaudio: the only place that does.

    Its public wheel links a C++ extension to CUDA libraries that a CPU build of torch lacks, so the plain import dies
    with OSError there. The parts in Python need no extension: with a stand-in for it, they work beside any torch.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        stand_in = types.ModuleType("torchaudio._extension")
        stand_in._IS_TORCHAUDIO_EXT_AVAILABLE = False
        stand_in.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = stand_in
        import torchaudio
    return torchaudio
