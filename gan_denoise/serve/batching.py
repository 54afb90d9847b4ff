"""Live streams of one model together: a step of the network takes a hop of each that has one.

A model's `initial_state(batch)` has the batch first in every tensor, so a stream is a row of one
large state, its seat.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.signal.around import Around
from gan_denoise.signal.arrays import check_values

GATHER_S = 0.004  # that a step waits for company: for ten it costs little more than for one
_AT_ONCE = (
    8  # hops of each stream in one step, at most: a sender in a hurry does not hold the others up
)


@dataclass
class Order:
    """Whole hops of a seat that wait, what became of those before, and who waits for it."""

    samples: Tensor
    done: asyncio.Future
    pieces: list[Tensor] = field(default_factory=list)


class Batch:
    """`seats` streams of a model at once. All methods are called in one event loop.

    worked: told the seconds of every step.
    """

    def __init__(
        self, denoiser: Denoiser, seats: int, worked: Callable[[float], None] = lambda seconds: None
    ):
        self.denoiser, self.hop = denoiser, denoiser.live_generator.hop_length
        self._device = next(denoiser.generator.parameters()).device
        self._free, self._orders = list(reversed(range(seats))), dict[int, Order]()
        self._scheduled, self._worked = False, worked
        self.generator = denoiser.live_generator
        with torch.inference_mode():
            self._fresh = self.generator.initial_state(1)
            self._state = self.generator.initial_state(seats)
            silence = torch.zeros(1, self.hop, device=self._device)
            self.generator.step(silence, self._fresh)  # the first step takes longer

    @property
    def free(self) -> int:
        return len(self._free)

    def take_seat(self) -> int:
        """A row of the state, as new. Raises IndexError where none is free."""
        seat = self._free.pop()
        self._put([seat], self._fresh)
        return seat

    def tell(self, seat: int, strength: float) -> None:
        """The strength of a seat, from its next step on; nothing to a model that takes none."""
        if "strength" in self._state:
            with torch.inference_mode():
                self._state["strength"][seat] = strength

    def leave_seat(self, seat: int) -> None:
        """Whatever the seat still waits for is forgotten."""
        self._orders.pop(seat, None)
        self._free.append(seat)

    def step(self, seat: int, samples: np.ndarray) -> asyncio.Future[np.ndarray]:
        """(n hops,) float32 -> in a while as many, latency - hop_length samples behind.

        One order a seat at a time.
        """
        loop = asyncio.get_running_loop()
        order = Order(torch.from_numpy(samples).to(self._device), loop.create_future())
        self._orders[seat] = order
        self._schedule(GATHER_S)
        return order.done

    def _schedule(self, wait_s: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(wait_s, self._step)

    def _step(self) -> None:
        """One step for all that wait: as many hops as the shortest order has."""
        self._scheduled = False
        if not self._orders:
            return
        started = time.perf_counter()
        seats, orders = list(self._orders), list(self._orders.values())
        count = min([_AT_ONCE * self.hop, *(len(order.samples) for order in orders)])
        try:
            enhanced = self._enhance(
                seats, torch.stack([order.samples[:count] for order in orders])
            )
        # Whatever fails here (a device out of memory): who waits must know
        except Exception as error:
            self._orders.clear()
            for order in orders:
                if not order.done.done():
                    order.done.set_exception(error)
            return
        for seat, order, piece in zip(seats, orders, enhanced, strict=True):
            order.pieces.append(piece)
            order.samples = order.samples[count:]
            if not len(order.samples):
                del self._orders[seat]
                if not order.done.done():  # its stream was cut off meanwhile
                    order.done.set_result(torch.cat(order.pieces).numpy())
        self._worked(time.perf_counter() - started)
        if self._orders:
            self._schedule(0.0)  # after what has come in meanwhile

    def _enhance(self, seats: list[int], noisy: Tensor) -> Tensor:
        """(B, n) -> (B, n) on the CPU, with the seats' states moved on."""
        with torch.inference_mode():
            state = {name: rows[seats] for name, rows in self._state.items()}
            enhanced, after = self.generator.step(noisy, state)
            self._put(seats, after)
            return enhanced.cpu()

    def _put(self, seats: list[int], state: dict[str, Any]) -> None:
        with torch.inference_mode():
            for name, rows in self._state.items():
                rows[seats] = state[name]


class LiveStream:
    """One stream of a batch, at any rate: as many samples come out as went in.

    `push` gives what is finished, `flush` the rest, as `Denoiser.stream` does; `close` it in any
    case.
    """

    def __init__(self, batch: Batch, sample_rate: int):
        self._batch, inside = batch, batch.denoiser.sample_rate
        model = batch.denoiser.at_home_live
        self._ends = model.ends(sample_rate, 1, model.as_strength(None))
        self._rates = sample_rate, inside
        self._waiting = np.zeros(0, dtype=np.float32)
        self._latency = batch.generator.latency
        # Samples from before the stream's start, to be dropped
        self._early = self._latency - batch.hop
        self._received = self._emitted = self._inside = self._inside_emitted = 0
        self._seat: int | None = batch.take_seat()

    @property
    def hop(self) -> int:
        return self._batch.hop

    def tell(self, strength: float | str) -> None:
        """How much to do from now on. Raises InputError for what is no strength."""
        value = self._batch.denoiser.at_home_live.as_strength(strength)
        if self._seat is not None and value is not None:
            self._batch.tell(self._seat, value)
            self._ends.strength = value

    def close(self) -> None:
        if self._seat is not None:
            self._batch.leave_seat(self._seat)
            self._seat = None
            del self._ends  # or soxr complains of resamplers whose owner is collected late

    async def push(self, samples: np.ndarray) -> np.ndarray:
        """(n,) -> (m,) float32.

        Raises InputError for NaN, infinite and far too loud samples, and for a model whose output
        is not finite.
        """
        check_values(samples, "the stream")
        self._received += len(samples)
        below = self._ends.inward(samples[:, None])
        kept = await self._enhance(below[:, 0])
        return self._finish(self._ends.outward(below, kept[:, None])[:, 0])

    async def flush(self) -> np.ndarray:
        """The rest. Nothing can be pushed any more."""
        below = self._ends.last_inward()
        received = self._inside + len(below)
        silence = np.zeros(self._latency + self._batch.hop, dtype=np.float32)
        kept = await self._enhance(np.concatenate([below[:, 0], silence]))
        kept = kept[: len(kept) - max(0, self._inside_emitted - received)]
        return self._finish(self._ends.last_outward(below, kept[:, None])[:, 0], pad=True)

    async def _enhance(self, samples: np.ndarray) -> np.ndarray:
        """At the model's rate; whole hops of what is there."""
        self._inside += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        whole = len(self._waiting) // self._batch.hop * self._batch.hop
        if not whole:
            return self._waiting[:0]
        ready, self._waiting = self._waiting[:whole], self._waiting[whole:].copy()
        assert self._seat is not None  # nobody pushes into a closed stream
        enhanced = await self._batch.step(self._seat, ready)
        if not np.isfinite(enhanced).all():
            raise InputError(
                "the model's output is not finite",
                remedy="train it again, with a lower learning rate",
            )
        early = min(self._early, len(enhanced))
        self._early -= early
        self._inside_emitted += len(enhanced) - early
        return enhanced[early:]

    def _finish(self, samples: np.ndarray, *, pad: bool = False) -> np.ndarray:
        """No more than was received in all; with pad, no less."""
        left = self._received - self._emitted
        samples = samples[:left]
        if pad and len(samples) < left:
            samples = np.pad(samples, [(0, left - len(samples))])
        self._emitted += len(samples)
        return samples


class Delay:
    """A stage that only holds samples back, as a model's stream does."""

    def __init__(self, hop: int, latency: int):
        self._hop, self._early = hop, latency - hop
        self._waiting = np.zeros((0, 1), dtype=np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._waiting = np.concatenate([self._waiting, samples])
        whole = len(self._waiting) // self._hop * self._hop
        out, self._waiting = self._waiting[:whole], self._waiting[whole:]
        early = min(self._early, len(out))
        self._early -= early
        return out[early:]

    def flush(self) -> np.ndarray:
        """What is held back is not a whole hop, and stays."""
        return self._waiting[:0]


def latency(denoiser: Denoiser, sample_rate: int) -> int:
    """Samples at `sample_rate` Hz that a live stream is behind at most, resampling included."""
    generator, inside = denoiser.live_generator, denoiser.sample_rate
    if sample_rate == inside:
        return generator.latency
    hop, model = generator.hop_length, denoiser.at_home_live
    ends = model.ends(sample_rate, 1, model.as_strength(None))
    chain = Around(ends, Delay(hop, generator.latency))
    piece = np.zeros((max(1, hop * sample_rate // inside), 1), dtype=np.float32)
    behind = most = 0
    for _ in range(2 * inside // hop):  # two seconds
        behind += len(piece)
        most = max(most, behind)
        behind -= len(chain.push(piece))
    return most
