"""Stages that take a signal piece by piece, of any sizes, and give what is finished: live streams
and files of any length use the same.

A stage has `push(samples)` -> what is finished by now, and `flush()` -> the rest, after which it
starts anew: as many samples came out as went in (at a ratio of rates). All samples are (n,
channels) float32.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy  # its parts are imported where they are first used: signal takes 0.7 s
import soxr
import torch
from numpy.lib.stride_tricks import sliding_window_view

from gan_denoise.arrays import as_float32
from gan_denoise.contract import Generator, Steps
from gan_denoise.errors import InputError

_STEP_S, _CHUNK_S = 8.0, 30.0  # handed to the network at once: to a streaming one, to any other
# Of a live resampler, which is behind by as much: what it waits for, and what it damps
_REACH_S, _STOP_DB = 0.004, 70.0
# Usual rates have 640 phases at most; others, and those where it would damp much, are soxr's
_MOST_PHASES, _LOWEST_HZ = 1000, 6000
_AT_ONCE = 2**12  # outputs of it


class Stage(Protocol):
    """What this module's classes have in common."""

    def push(self, samples: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


class Live:
    """A stage as a caller outside uses it: its input is checked, and as many samples come out as
    went in.

    network: the stage's own, whose strength may be set. as_strength: what makes a number of one.
    latency_s: what comes out is behind what went in by so much at most, resampling included.
    """

    def __init__(
        self,
        stage: Stage,
        channels: int,
        network: Stream,
        as_strength: Callable[[Any], float | None],
        latency_s: float,
    ):
        self.latency_s = latency_s
        self._stage, self._channels, self._received, self._emitted = stage, channels, 0, 0
        self._network, self._as_strength = network, as_strength

    @property
    def strength(self) -> float | None:
        """0 to 1; None where the model takes none. Set, it holds from the next hop on. Raises
        InputError for what is none.
        """
        return self._network.strength

    @strength.setter
    def strength(self, strength: float | str) -> None:
        self._network.strength = self._as_strength(strength)

    def push(self, samples) -> np.ndarray:
        """(n, channels), n >= 0, of any type of samples -> (m, channels) float32: what is finished
        by now.

        Raises InputError for other shapes and types, NaN and infinite samples; the stream is then
        as before.
        """
        wave = as_float32(samples)
        if wave.ndim != 2 or wave.shape[1] != self._channels:
            raise InputError(
                f"the stream expects samples of shape (n, {self._channels}), found {wave.shape}"
            )
        if not np.isfinite(wave).all():
            raise InputError(
                "the stream holds NaN or infinite samples", remedy="silence them before"
            )
        self._received += len(wave)
        return self._within(self._stage.push(wave))

    def flush(self) -> np.ndarray:
        """The rest; then the stream starts anew."""
        rest = self._within(self._stage.flush())
        missing = self._received - self._emitted
        self._received = self._emitted = 0
        return np.pad(rest, [(0, missing), (0, 0)])

    def _within(self, finished: np.ndarray) -> np.ndarray:
        """No more than went in: resampling there and back rounds up twice."""
        finished = finished[: self._received - self._emitted]
        self._emitted += len(finished)
        return finished


class Stream:
    """A generator with `latency` and `step`, live. What comes out at sample t depends on no input
    from t + latency on.

    generator: on its device, in evaluation mode. channels: enhanced one by one, each with a state
    of its own. strength: 0 to 1, where the generator takes one; it may be set between two pushes.
    """

    def __init__(
        self, generator: Steps, channels: int, sample_rate: int, strength: float | None = None
    ):
        self._generator, self._channels, self._hop = generator, channels, generator.hop_length
        self.strength = strength
        self._at_once = max(1, round(_STEP_S * sample_rate / self._hop)) * self._hop
        self.reset()

    def reset(self) -> None:
        """Forget what was received."""
        with torch.inference_mode():
            self._state = self._generator.initial_state(self._channels)
        self._device = torch.as_tensor(next(iter(self._state.values()))).device
        self._waiting = np.zeros((0, self._channels), dtype=np.float32)
        self._finished: list[np.ndarray] = []  # more than nothing only after a step that failed
        # Samples from before the signal's start, to be dropped
        self._early = self._generator.latency - self._hop
        self._received = self._emitted = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) -> (m, channels), n >= 0: all whole hops that there are.

        Where a step raises, nothing is lost: the next call goes on from there.
        """
        self._received += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        while whole := len(self._waiting) // self._hop * self._hop:
            taken = min(whole, self._at_once)
            self._finished.append(self._step(self._waiting[:taken]))
            self._waiting = self._waiting[taken:]
        self._waiting = self._waiting.copy()  # of a hop at most, and no longer of what was pushed
        out = np.concatenate([self._waiting[:0], *self._finished])
        self._finished = []
        self._emitted += len(out)
        return out

    def _step(self, samples: np.ndarray) -> np.ndarray:
        """Whole hops."""
        with torch.inference_mode():
            if self.strength is not None:
                self._state["strength"] = 0.0 * self._state["strength"] + self.strength
            enhanced, self._state = self._generator.step(
                torch.from_numpy(samples.T.copy()).to(self._device), self._state
            )
        out = enhanced.cpu().numpy().T
        early = min(self._early, len(out))
        self._early -= early
        return out[early:]

    def flush(self) -> np.ndarray:
        """What the last `latency` samples of input were waiting for; then the stream is reset."""
        left, silence = self._received - self._emitted, self._generator.latency + self._hop
        out = self.push(np.zeros((silence, self._channels), dtype=np.float32))[:left]
        self.reset()
        return out


class Windowed:
    """Any other generator: pieces with its receptive field each side as context, so that the result
    is that of the whole. strength: as of Stream.
    """

    def __init__(
        self, generator: Generator, channels: int, sample_rate: int, strength: float | None = None
    ):
        self._generator, self._channels = generator, channels
        self._device = next(generator.parameters()).device
        self._told = (
            ()
            if strength is None
            else (torch.full((1,), strength, dtype=torch.float32, device=self._device),)
        )
        grid = generator.hop_length  # a piece must start where a frame of the whole starts
        self._context = -(-int(generator.receptive_field) // grid) * grid
        self._piece = max(1, round(_CHUNK_S * sample_rate) // grid) * grid
        self._start()

    def _start(self) -> None:
        self._held = np.zeros((0, self._channels), dtype=np.float32)
        self._before = 0  # of the held samples, those that are context alone

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) -> (m, channels)."""
        self._held = np.concatenate([self._held, samples])
        pieces = [self._held[:0]]
        while len(self._held) - self._before >= self._piece + self._context:
            pieces.append(
                self._enhance(self._held[: self._before + self._piece + self._context])[
                    : self._piece
                ]
            )
            drop = max(0, self._before + self._piece - self._context)
            self._held, self._before = self._held[drop:].copy(), self._before + self._piece - drop
        return np.concatenate(pieces)

    def flush(self) -> np.ndarray:
        """The rest; then it starts anew."""
        out = (
            self._held[self._before :]
            if len(self._held) == self._before
            else self._enhance(self._held)
        )
        self._start()
        return out

    def _enhance(self, samples: np.ndarray) -> np.ndarray:
        channels = []
        with torch.inference_mode():
            for channel in samples.T:  # one by one: memory
                wave = torch.from_numpy(channel.copy()).to(self._device)
                enhanced = self._generator(wave[None, None], *self._told)
                channels.append(enhanced[0, 0].cpu().numpy())
        return np.stack(channels, axis=1)[self._before :]


class Windows:
    """A generator that works window by window itself (generators/ahead.py): each window once, as
    soon as it is there. strength: as of Stream.
    """

    def __init__(self, generator: Any, channels: int, strength: float | None = None):
        self._generator, self._channels = generator, channels
        device = generator.fade.device
        self._told = None if strength is None else torch.full((1,), strength, device=device).float()
        self._start()

    def _start(self) -> None:
        self._held = np.zeros((0, self._channels), dtype=np.float32)
        self._tails: list[torch.Tensor | None] = [None] * self._channels

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n, channels) -> (m, channels)."""
        self._held = np.concatenate([self._held, samples])
        pieces = [self._held[:0]]
        while len(self._held) > self._generator.window:
            pieces.append(self._work(self._held[: self._generator.window])[0])
            self._held = self._held[self._generator.hop_length :].copy()
        return np.concatenate(pieces)

    def flush(self) -> np.ndarray:
        """The rest; then it starts anew."""
        out = np.concatenate(self._work(self._held)) if len(self._held) else self._held
        self._start()
        return out

    def _work(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        finished, left = [], []
        with torch.inference_mode():
            for index, channel in enumerate(samples.T):  # one by one: memory
                wave = torch.from_numpy(channel.copy()).to(self._generator.fade.device)
                before = self._tails[index]
                done, tail = self._generator.one_window(wave[None, None], before, self._told)
                self._tails[index] = tail
                finished.append(done[0, 0].cpu().numpy())
                left.append(tail[0, 0].cpu().numpy())
        return np.stack(finished, axis=1), np.stack(left, axis=1)


class Resampler:
    """Band-limited, aligned in time; between equal rates a wire. quality: "VHQ" for files (soxr);
    "HQ" for live use, which waits for 4 ms at usual rates and passes half a kilohertz less.
    """

    def __init__(self, rate_in: int, rate_out: int, channels: int, *, quality: str = "VHQ"):
        self._rates, self._quality, self._channels = (rate_in, rate_out), quality, channels
        phases = rate_out // math.gcd(rate_in, rate_out)
        self._short = (
            quality == "HQ" and phases <= _MOST_PHASES and min(rate_in, rate_out) >= _LOWEST_HZ
        )
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
    """A resampler that waits for _REACH_S and no longer, where soxr waits for whole blocks: a
    windowed sinc in phases. As soxr.ResampleStream.
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
        pieces = [samples[:0]]
        for start in range(self._made, ready, _AT_ONCE):
            outputs = np.arange(start, min(ready, start + _AT_ONCE))
            begins = -((reach - outputs * down) // up)  # the first input of each
            phases = self._phases[begins * up - (outputs * down - reach)]
            windows = sliding_window_view(self._held, phases.shape[1], axis=0)
            pieces.append((windows[begins - self._first] @ phases[:, :, None])[:, :, 0])
        self._made = ready
        needed = -((reach - ready * down) // up)
        self._held, self._first = self._held[needed - self._first :].copy(), needed
        return np.concatenate(pieces)


@functools.cache
def _phases(rate_in: int, rate_out: int) -> tuple[np.ndarray, int]:
    """A low-pass filter at rate_in * up Hz: (up, taps), what each phase of it does with the inputs
    in its reach, and that reach each side.
    """
    up = rate_out // math.gcd(rate_in, rate_out)
    reach = round(_REACH_S * rate_in * up)
    width_hz = (_STOP_DB - 7.95) / (14.36 * 2 * _REACH_S)  # kaiser's formula
    cutoff_hz = min(rate_in, rate_out) / 2 - width_hz / 2
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


class Chain:
    """Stages one behind the other, itself a stage."""

    def __init__(self, *stages: Stage):
        self._stages = stages

    def push(self, samples: np.ndarray) -> np.ndarray:
        for stage in self._stages:
            samples = stage.push(samples)
        return samples

    def flush(self) -> np.ndarray:
        pieces = []
        for position, stage in enumerate(self._stages):
            rest = stage.flush()
            pieces.append(Chain(*self._stages[position + 1 :]).push(rest))
        return np.concatenate(pieces)
