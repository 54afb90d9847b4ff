"""Checks and conversions of what callers pass in: samples and sample rates of any type."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np

from gan_denoise.errors import InputError

MAX_CHANNELS = 1024  # as libsndfile has it
# Hz; beyond these rates resampling turns one sample into thousands
LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000
_SURROUND = 8  # with more channels than this, fewer samples than channels are refused
LOUDEST = 1e6  # where full scale is 1.0; far beyond, the model's sums overflow
_FULL_SCALE = "floats of full scale 1.0, or uint8, int8, int16 or int32"


def to_float(samples: np.ndarray) -> np.ndarray:
    """Integers of 8 (signed or not), 16 and 32 bits -> float64 of full scale 1.0; floats unchanged.

    Raises InputError for any other type.
    """
    dtype = samples.dtype.newbyteorder("=")
    if dtype.kind == "f":
        return samples
    if dtype == np.uint8:
        return (samples.astype(np.float64) - 128.0) / 128.0
    if dtype in (np.int8, np.int16, np.int32):
        return samples.astype(np.float64) / -float(np.iinfo(dtype).min)
    raise InputError(
        f"samples of type {samples.dtype}: expected {_FULL_SCALE}", remedy="convert them"
    )


def as_columns(samples: Any) -> np.ndarray:
    """Samples of shape (T,) or (T, channels), T >= 1 -> float32 (T, channels), full scale 1.0.

    samples: what NumPy can take as an array, or a torch tensor of any device and type. The result
    is a copy or a view. Raises InputError for other shapes and types (with far more channels than
    samples the axes are the other way round), and for samples that `check_values` refuses.
    """
    array = as_float32(samples)
    if array.ndim not in (1, 2) or array.size == 0:
        raise InputError(
            f"expected samples of shape (T,) or (T, channels) with T >= 1, found {array.shape}"
        )
    columns = array.reshape(len(array), -1)
    length, channels = columns.shape
    if channels > MAX_CHANNELS or channels > max(length, _SURROUND):
        raise InputError(
            f"expected samples of shape (T,) or (T, channels), found {array.shape}",
            remedy="transpose them",
        )
    check_values(columns, "the wave")
    return columns


def check_values(samples: np.ndarray, where: object, remedy: str = "silence them before") -> None:
    """Raises InputError for NaN and infinite samples, and for a level that no recording has.

    where: the file, or other place, that holds them. remedy: for samples that are not finite.
    """
    low, high = float(samples.min(initial=0.0)), float(samples.max(initial=0.0))
    if not np.isfinite(low + high):  # NaN is both
        raise InputError(where, "holds NaN or infinite samples", remedy)
    if max(-low, high) > LOUDEST:
        raise InputError(
            where,
            f"holds samples of up to {max(-low, high):.2g}, {LOUDEST:.0g} at most are read",
            "scale them to full scale 1.0",
        )


def as_float32(samples: Any) -> np.ndarray:
    """Samples of any shape -> float32 of full scale 1.0.

    Raises InputError for types that are no samples.
    """
    if hasattr(samples, "detach"):  # torch, which this module need not import
        samples = _from_torch(samples)
    if isinstance(samples, (bytearray, memoryview)) and memoryview(samples).format in "bBc":
        raise InputError(
            f"samples of type {type(samples).__name__}",
            remedy="numpy.frombuffer with their dtype makes them an array",
        )
    if isinstance(samples, np.ma.MaskedArray):
        raise InputError("a masked array", remedy="fill its gaps first (samples.filled(0.0))")
    try:
        array = np.asarray(samples)
    except ValueError as error:  # rows of unequal lengths
        raise InputError(f"not an array of samples ({error})") from error
    if isinstance(samples, (list, tuple)) and array.dtype.kind == "i":
        array = array.astype(np.float64)  # whole numbers among floats, not an integer format
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        return to_float(array).astype(np.float32, copy=False)


def _from_torch(tensor: Any) -> np.ndarray:
    """Raises InputError for tensors that hold no plain samples: sparse, quantised, meta."""
    try:
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (RuntimeError, TypeError) as error:
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
        remedy = "make it a plain one first, with to_dense() or dequantize()"
        raise InputError(f"a tensor of another kind ({kind})", remedy=remedy) from error


def check_channels(channels: Any) -> None:
    """Refuse what is no number of channels. Raises InputError."""
    if (
        isinstance(channels, bool)
        or not isinstance(channels, int)
        or not 1 <= channels <= MAX_CHANNELS
    ):
        raise InputError(
            "channels", f"expected a whole number from 1 to {MAX_CHANNELS}, found {channels!r}"
        )


def as_rate(sample_rate: Any) -> int:
    """A sample rate as an int, from any numeric type (44100, 44100.0, np.int64(44100)).

    Raises InputError for what is not a whole number of Hz from LOWEST_RATE to HIGHEST_RATE.
    """
    number = (
        sample_rate.item()
        if hasattr(sample_rate, "item") and np.ndim(sample_rate) == 0
        else sample_rate
    )
    real = isinstance(number, numbers.Real) and not isinstance(number, bool)
    if not real or number != number or number % 1 or not LOWEST_RATE <= number <= HIGHEST_RATE:
        raise InputError(
            "sample_rate",
            f"expected a whole number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}, found"
            f" {sample_rate!r}",
        )
    return int(number)
