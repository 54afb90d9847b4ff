"""What the rest of the library asks of a generator, a discriminator and a loss, as types.

It stands outside their folders, since every file in these is one generator, discriminator or loss.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]
BALANCED = 0.5  # the default strength
Maps = list[list[Tensor]]


class Generator(nn.Module):
    """(B, 1, T) float32 noisy -> (B, 1, T) float32 enhanced, for any T >= 1.

    At inference it is not random. receptive_field: how far each side of an output sample its inputs
    reach, in samples; infinite for a recurrence. hop_length: the grid, in samples, on which a
    signal may be cut for processing in chunks; 1 where there is none. takes_strength (false where
    it is missing): whether `forward` takes a second argument, strength (B,), from 0, which spares
    the speech, to 1, which spares no noise, and BALANCED by default.
    """

    receptive_field: int | float
    hop_length: int
    takes_strength: bool

    def forward(self, noisy: Tensor) -> Tensor:
        raise NotImplementedError


class StreamingGenerator(Generator):
    """A generator that also works hop by hop, with explicit state.

    `forward` is one step over the whole signal, so processing in chunks equals it by construction.
    latency: output sample t depends on no input beyond t + latency, in samples.
    """

    receptive_field = math.inf
    latency: int

    def initial_state(self, batch: int = 1) -> State:
        """The state before the first step: silence.

        Every tensor has the batch first; the names are those of the ONNX graph. Where the generator
        takes a strength, it is the state's "strength" (B, 1), which may be set between two steps.
        """
        raise NotImplementedError

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, N hops) and the state before -> enhanced (B, N hops), and the state after.

        The output is latency - hop_length samples behind the input.
        """
        raise NotImplementedError

    def forward(self, noisy: Tensor, strength: Tensor | None = None) -> Tensor:
        length, delay = noisy.shape[-1], self.latency - self.hop_length
        wave = F.pad(noisy[:, 0], (0, delay + -(length + delay) % self.hop_length))
        state = self.initial_state(noisy.shape[0])
        if strength is not None:
            state["strength"] = strength[:, None]
        enhanced, _ = self.step(wave, state)
        return enhanced[:, None, delay : delay + length]


class Steps(Protocol):
    """What live use asks of a streaming generator or of its ONNX graph.

    Each has its own type of state, in which the batch is first in every tensor or array.
    """

    hop_length: int
    latency: int

    def initial_state(self, batch: int = 1) -> dict[str, Any]: ...

    def step(self, noisy: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]: ...


def streams(generator: nn.Module) -> TypeGuard[StreamingGenerator]:
    """Whether a generator works hop by hop."""
    return hasattr(generator, "latency")


def takes_strength(generator: nn.Module) -> bool:
    """Whether a generator takes a strength."""
    return getattr(generator, "takes_strength", False)


class Discriminator(nn.Module):
    """(B, C, T) -> a list with the outputs of its sub-discriminators.

    Each output is the list of feature maps, the score map last: the adversarial loss reads the
    last, feature matching all others. There is no batch normalisation and nothing else that lets
    items see each other or that remembers earlier passes: one joint pass over real and fake must
    equal two. A bank replaces the first weights of all convolutions (discriminators/__init__.py,
    `keep_variance`).
    """

    def forward(self, wave: Tensor) -> Maps:
        raise NotImplementedError


class Loss(nn.Module):
    """Waveforms (B, 1, T), enhanced, clean and noisy -> a scalar, the mean over the batch's items.

    The waveforms are float32 or wider, and each item is judged by itself. takes_strength: whether
    the loss weighs an item by the generator's strength.
    """

    takes_strength = False

    def forward(self, enhanced: Tensor, clean: Tensor, noisy: Tensor) -> Tensor:
        raise NotImplementedError
