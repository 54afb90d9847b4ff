"""Sample rates changed piece by piece: by a long filter in files, by a short one live."""

from __future__ import annotations

import functools
import math
from typing import Any, TypeVar

import numpy as np
import scipy  # its parts are imported where they are first used: signal takes 0.7 s
import soxr
from numpy.lib.stride_tricks import sliding_window_view

# Of a live resampler, which is behind by as much: what it waits for, and what it damps
_REACH_S, _STOP_DB = 0.004, 70.0
# Usual rates have 640 phases at most; others, and those where it would damp much, are soxr's
_MOST_PHASES, _LOWEST_HZ = 1000, 6000
_AT_ONCE = 2**12  # outputs of it
Outputs = TypeVar("Outputs", int, np.ndarray)  # their places
_FEW = 12  # of a ratio's two numbers, their product: up to it each phase is a convolution


class Resampler:
    """A band-limited resampler that keeps signals aligned in time.

    Between equal rates it passes samples on unchanged. quality: "VHQ" for files (soxr); "HQ" for
    live use, which waits for 4 ms at usual rates. The filter for live use falls off gently within a
    quarter of a kilohertz of half the lower rate: a model whose input is empty in that band takes
    noise for speech.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int, *, quality: str = "VHQ"):
        self._rates, self._quality, self._channels = (rate_in, rate_out), quality, channels
        phases = rate_out // math.gcd(rate_in, rate_out)
        usual = phases <= _MOST_PHASES and min(rate_in, rate_out) >= _LOWEST_HZ
        self._short = quality == "HQ" and rate_in != rate_out and usual
        self._start()

    def _start(self) -> None:
        self._filter: Any = (
            ShortFilter(*self._rates, self._channels)
            if self._short
            else soxr.ResampleStream(
                *self._rates, self._channels, dtype="float32", quality=self._quality
            )
        )
        self._received = self._emitted = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) at rate_in -> (m, channels) at rate_out."""
        self._received += len(samples)
        wire = self._rates[0] == self._rates[1]
        out = (
            samples
            if wire
            else self._filter.resample_chunk(np.ascontiguousarray(samples, dtype=np.float32))
        )
        self._emitted += len(out)
        return out

    def flush(self) -> np.ndarray:
        """The rest, so that ceil(T * out / in) came out in all; then it starts anew."""
        left = max(0, -(-self._received * self._rates[1] // self._rates[0]) - self._emitted)
        last = self._filter.resample_chunk(
            np.zeros((0, self._channels), dtype=np.float32), last=True
        )[:left]
        out = np.pad(last, [(0, left - len(last)), (0, 0)])
        self._start()
        return out


class ShortFilter:
    """A resampler that waits for _REACH_S and no longer: a windowed sinc in phases.

    soxr waits for whole blocks. The methods are those of soxr.ResampleStream.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int):
        common = math.gcd(rate_in, rate_out)
        self._up, self._down = rate_out // common, rate_in // common
        self._phases, self._reach = _phases(rate_in, rate_out)
        before = self._reach // self._up
        self._held = np.zeros((before, channels), dtype=np.float32)
        # From the stream's start: the first input that is held, inputs, outputs
        self._first, self._received, self._made = -before, 0, 0

    def resample_chunk(self, samples: np.ndarray, last: bool = False) -> np.ndarray:
        """(n, channels) float32 -> what is finished; with `last`, the rest."""
        up, down, reach = self._up, self._down, self._reach
        self._held = np.concatenate([self._held, samples])
        self._received += len(samples)
        ready = max(self._made, ((self._received - 1) * up - reach) // down + 1)
        if last:
            silence = np.zeros((2 * reach // up + 1, samples.shape[1]), dtype=np.float32)
            self._held = np.concatenate([self._held, silence])
            ready = -(-self._received * up // down)
        work = self._by_phase if up * down <= _FEW else self._by_output
        pieces = [samples[:0]]
        for start in range(self._made, ready, _AT_ONCE):
            pieces.append(work(start, min(ready, start + _AT_ONCE)))
        self._made = ready
        needed = -((reach - ready * down) // up)
        self._held, self._first = self._held[needed - self._first :].copy(), needed
        return np.concatenate(pieces)

    def _begins(self, outputs: Outputs) -> Outputs:
        """The first input of outputs."""
        return -((self._reach - outputs * self._down) // self._up)

    def _by_output(self, start: int, end: int) -> np.ndarray:
        """The outputs from `start` to before `end`, each by the taps of its phase."""
        outputs = np.arange(start, end)
        begins = self._begins(outputs)
        phases = self._phases[begins * self._up - (outputs * self._down - self._reach)]
        windows = sliding_window_view(self._held, phases.shape[1], axis=0)
        return (windows[begins - self._first] @ phases[:, :, None])[:, :, 0]

    def _by_phase(self, start: int, end: int) -> np.ndarray:
        """The same, phase by phase, for ratios of few phases: a tenth of the time."""
        up, down, held = self._up, self._down, np.ascontiguousarray(self._held.T)
        out = np.zeros((end - start, len(held)), dtype=np.float32)
        for first in range(start, min(end, start + up)):
            begin, count = self._begins(first), -(-(end - first) // up)
            taps = self._phases[begin * up - (first * down - self._reach)]
            begin -= self._first
            for part in range(down):
                few = taps[part::down]
                for channel, samples in enumerate(held):
                    inputs = samples[begin + part :: down][: count + len(few) - 1]
                    out[first - start :: up, channel] += np.correlate(inputs, few, "valid")
        return out


@functools.cache
def _phases(rate_in: int, rate_out: int) -> tuple[np.ndarray, int]:
    """A low-pass filter at rate_in * up Hz, cut into phases.

    Returns (up, taps), which holds what each phase does with the inputs in its reach, and that
    reach on each side.
    """
    up = rate_out // math.gcd(rate_in, rate_out)
    reach = round(_REACH_S * rate_in * up)
    cutoff_hz = min(rate_in, rate_out) / 2  # at which half of the amplitude passes
    window = ("kaiser", scipy.signal.kaiser_beta(_STOP_DB))
    taps = up * scipy.signal.firwin(2 * reach + 1, cutoff_hz, window=window, fs=rate_in * up)
    taps = np.pad(taps[::-1], (0, -len(taps) % up))
    return taps.reshape(-1, up).T.astype(np.float32), reach


@functools.cache
def behind_s(rate_in: int, rate_out: int) -> float:
    """How long a live Resampler keeps what it is given, at most, in pieces of a millisecond."""
    if rate_in == rate_out:
        return 0.0
    stage, most = Resampler(rate_in, rate_out, 1, quality="HQ"), 0.0
    piece = np.zeros((max(1, rate_in // 1000), 1), dtype=np.float32)
    received = emitted = 0
    for _ in range(500):
        received += len(piece)
        most = max(most, received / rate_in - emitted / rate_out)
        emitted += len(stage.push(piece))
    return most
