"""Stages that take a signal piece by piece, of any sizes, and return what is finished.

Live streams and files of any length use the same stages.

A stage has `push(samples)` -> what is finished by now, and `flush()` -> the rest, after which it
starts anew: as many samples came out as went in (at a ratio of rates). All samples are (n,
channels) float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from gan_denoise.contract import Generator, Steps
from gan_denoise.errors import InputError
from gan_denoise.signal.arrays import as_float32, check_values

_STEP_S, _CHUNK_S = 8.0, 30.0  # handed to the network at once: to a streaming one, to any other


class Stage(Protocol):
    """What this module's classes have in common."""

    def push(self, samples: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


class Told(Protocol):
    """A stage that is told how much to do."""

    strength: float | None


class Live:
    """A stage for callers outside the library.

    It checks its input, and as many samples come out as went in.

    told: its parts whose strength may be set. as_strength: turns what a caller sets into a number.
    latency_s: the most by which the output is behind the input, resampling included.
    """

    def __init__(
        self,
        stage: Stage,
        channels: int,
        told: Sequence[Told],
        as_strength: Callable[[Any], float | None],
        latency_s: float,
    ):
        self.latency_s = latency_s
        self._stage, self._channels, self._received, self._emitted = stage, channels, 0, 0
        self._told, self._as_strength = told, as_strength

    @property
    def strength(self) -> float | None:
        """0 to 1; None where the model takes no strength.

        A new value holds from the next hop on. Raises InputError for a value that is no strength.
        """
        return self._told[0].strength

    @strength.setter
    def strength(self, strength: float | str) -> None:
        number = self._as_strength(strength)
        for part in self._told:
            part.strength = number

    def push(self, samples: Any) -> np.ndarray:
        """(n, channels), n >= 0, of any type of samples -> (m, channels) float32.

        Returns what is finished by now. Raises InputError for other shapes and types, NaN,
        infinite and far too loud samples; the stream is then as before.
        """
        wave = as_float32(samples)
        if wave.ndim != 2 or wave.shape[1] != self._channels:
            raise InputError(
                f"the stream expects samples of shape (n, {self._channels}), found {wave.shape}"
            )
        check_values(wave, "the stream")
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
    """A generator with `latency` and `step`, live.

    The output at sample t depends on no input from t + latency on.

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
    """Any other generator, which works on pieces with context on each side.

    The context is its receptive field, so the result is that of the whole signal. strength: as of
    Stream.
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
    """A generator that works window by window itself (generators/ahead.py).

    Each window is worked on once, as soon as all of it has arrived. strength: as of Stream.
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


class Wire:
    """A stage that changes nothing."""

    def __init__(self, channels: int):
        self._channels = channels

    def push(self, samples: np.ndarray) -> np.ndarray:
        return samples

    def flush(self) -> np.ndarray:
        return np.zeros((0, self._channels), dtype=np.float32)


class Mixed:
    """A weighted sum of stages, which is itself a stage and as long as its input.

    The stages finish their samples at different times. A stage without weight is left out.
    """

    def __init__(self, *weighted: tuple[float, Stage]):
        self._weighted = [(weight, stage) for weight, stage in weighted if weight]
        self._start()

    def _start(self) -> None:
        self._waiting: list[np.ndarray | None] = [None] * len(self._weighted)
        self._received = self._emitted = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._received += len(samples)
        return self._sum([stage.push(samples) for _, stage in self._weighted])

    def flush(self) -> np.ndarray:
        total = self._sum([stage.flush() for _, stage in self._weighted])
        self._start()
        return total

    def _sum(self, pieces: list[np.ndarray]) -> np.ndarray:
        """Of what all of them have finished."""
        held = [
            new if old is None else np.concatenate([old, new])
            for old, new in zip(self._waiting, pieces, strict=True)
        ]
        ready = min(self._received - self._emitted, *(len(samples) for samples in held))
        self._waiting = [samples[ready:].copy() for samples in held]
        self._emitted += ready
        weighted = zip(self._weighted, held, strict=True)
        total = np.sum([weight * samples[:ready] for (weight, _), samples in weighted], axis=0)
        return total.astype(np.float32, copy=False)
