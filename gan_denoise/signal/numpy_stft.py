"""The STFT in float64 NumPy: what the procedure computes with, and what pictures show.

stft.py has the torch STFT, for networks. Results are the same to the bit on every machine, as the
procedure promises, however many frames are processed at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Periodic generalised cosine windows: coefficients of 1, cos and cos 2 (Harris 1978)
WINDOWS = {
    "hann": (0.5, 0.5),
    "hamming": (0.54, 0.46),
    "blackman": (0.42, 0.5, 0.08),
    "rectangular": (1.0,),
}
_SUMMED_AT_ONCE = 2**20


def cosine_window(name: str, n_fft: int) -> np.ndarray:
    angle = 2.0 * np.pi * np.arange(n_fft) / n_fft
    return sum(
        (
            (-1) ** order * factor * np.cos(order * angle)
            for order, factor in enumerate(WINDOWS[name])
        ),
        np.zeros(n_fft),
    )


def frame_count(length: int, hop_length: int) -> int:
    """The number of frames of `stft` for a signal of this many samples."""
    return 1 - (-length // hop_length)


def stft(
    samples: np.ndarray,
    window: np.ndarray,
    hop_length: int,
    start: int = 0,
    stop: int | None = None,
) -> np.ndarray:
    """Unnormalised STFT, centred with zero padding: (T,) -> (1 + ceil(T / hop), n_fft / 2 + 1).

    samples: float64; the spectrum is complex128. It equals torch.stft(..., pad_mode="constant"),
    transposed, where T is a multiple of the hop. Elsewhere there is one frame more, so that the
    last samples are covered as well as all others and the inverse never divides by a window's
    vanishing tail. start, stop: the frames to compute, all by default.
    """
    n_fft = len(window)
    stop = frame_count(len(samples), hop_length) if stop is None else stop
    low, high = start * hop_length - n_fft // 2, (stop - 1) * hop_length + n_fft - n_fft // 2
    padded = np.zeros(high - low)
    inside = samples[max(0, low) : max(0, high)]
    padded[max(0, -low) : max(0, -low) + len(inside)] = inside
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    return np.fft.rfft(frames * window, axis=1)


def istft(spectrum: np.ndarray, window: np.ndarray, hop_length: int, length: int) -> np.ndarray:
    """Inverse of `stft` by weighted overlap-add: -> (length,).

    It is the least-squares inverse (Griffin and Lim 1984, eq. 6).
    """
    inverse = Inverse(window, hop_length, length)
    inverse.push(spectrum)
    return inverse.signal()


class Inverse:
    """`istft` of frames that arrive in several parts."""

    def __init__(self, window: np.ndarray, hop_length: int, length: int):
        self._window, self._signal = window, np.zeros(length)
        self._sum, self._weight = (OverlapAdd(len(window), hop_length) for _ in range(2))
        self._place = -(len(window) // 2)  # of the next frame's start, in samples

    def push(self, spectrum: np.ndarray) -> None:
        frames = np.fft.irfft(spectrum, n=len(self._window), axis=1)
        frames *= self._window
        self._write(
            self._sum.push(frames),
            self._weight.push(np.broadcast_to(self._window**2, frames.shape)),
        )

    def signal(self) -> np.ndarray:
        self._write(self._sum.rest(), self._weight.rest())
        return self._signal

    def _write(self, total: np.ndarray, weight: np.ndarray) -> None:
        low, high = max(0, self._place), min(len(self._signal), self._place + len(total))
        if low < high:
            kept = slice(low - self._place, high - self._place)
            self._signal[low:high] = total[kept] / weight[kept]
        self._place += len(total)


class OverlapAdd:
    """Overlap-add of frames that arrive in several parts, each `hop_length` samples after the last.

    The frames of a sample are added in the order of time.
    """

    def __init__(self, n_fft: int, hop_length: int):
        self._spanned = -(-n_fft // hop_length)  # hops that a frame spans
        self._open = np.zeros((self._spanned - 1, hop_length))

    def push(self, frames: np.ndarray) -> np.ndarray:
        """(N, n_fft) -> (N * hop,), the samples to which later frames add nothing."""
        count, hop_length = len(frames), self._open.shape[1]
        total = np.zeros((count + self._spanned - 1, hop_length))
        total[: self._spanned - 1] = self._open
        for block in reversed(range(self._spanned)):
            part = frames[:, block * hop_length : (block + 1) * hop_length]
            total[block : block + count, : part.shape[1]] += part
        self._open = total[count:]
        return total[:count].reshape(-1)

    def rest(self) -> np.ndarray:
        """The samples after those that `push` has returned."""
        return self._open.reshape(-1)


def pairwise_sum(pieces: Iterable[np.ndarray], size: int) -> float:
    """The sum of `size` float64 numbers that come in pieces, to the bit that of np.sum of all.

    np.sum halves what is longer than 128 numbers, at a multiple of eight, and sums the halves in
    the same way.
    """
    pieces, waiting = iter(pieces), np.empty(0)

    def sum_of(count: int) -> float:
        nonlocal waiting
        if count > _SUMMED_AT_ONCE:
            half = count // 2
            half -= half % 8
            first = sum_of(half)
            return first + sum_of(count - half)
        while len(waiting) < count:
            waiting = np.concatenate([waiting, next(pieces)])
        piece, waiting = waiting[:count], waiting[count:]
        return np.add.reduce(piece)

    return sum_of(size)


def spectrogram_db(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """The picture of a wave: (T,) -> level (F, N) in dB, low frequencies first.

    Hann windows of 32 ms, one every 8 ms.
    """
    hop_length = sample_rate // 125
    return 20.0 * np.log10(
        np.abs(stft(samples, cosine_window("hann", 4 * hop_length), hop_length)).T + 1e-7
    )
