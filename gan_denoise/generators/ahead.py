"""`bands` for files: its recurrences go through time both ways.

What follows a frame helps to tell speech from noise as well as what precedes it. A long signal is
processed in windows that overlap, each by itself, so that memory is bounded, and a file that is
read piece by piece gives the same output as the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.generators import bands as one_way


class Generator(contract.Generator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    window_s: length of a window; an output sample depends on nothing farther away. overlap_s: of
    two windows; in the middle half of it one fades into the other. shifts: how many times the
    network processes each window, its frames placed a part of a hop later each time; the output is
    the mean (the shift trick of Demucs, Defossez et al. 2019). Training takes one pass whatever
    `shifts` is. The other sizes are those of `bands`.
    """

    neutral = one_way.Generator.neutral
    fade: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        channels: int = 32,
        bands: int = 24,
        width: int = 64,
        blocks: int = 2,
        deeper: int = 0,
        heads: int = 4,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        level_ms: float = 1024.0,
        loud: bool = False,
        high_pass_hz: float = 0.0,
        entrance_hz: float = 0.0,
        strength: bool = False,
        window_s: float = 8.0,
        overlap_s: float = 1.0,
        shifts: int = 1,
    ):
        super().__init__()
        self.network = one_way.Generator(
            sample_rate,
            channels=channels,
            bands=bands,
            width=width,
            blocks=blocks,
            deeper=deeper,
            heads=heads,
            window_ms=window_ms,
            hop_ms=hop_ms,
            level_ms=level_ms,
            loud=loud,
            high_pass_hz=high_pass_hz,
            entrance_hz=entrance_hz,
            strength=strength,
            both_ways=True,
        )
        if shifts < 1:
            raise ValueError(f"shifts {shifts} is not at least 1")
        self.takes_strength, self.shifts = strength, shifts
        self.window, overlap = (round(seconds * sample_rate) for seconds in (window_s, overlap_s))
        if not 4 <= overlap <= self.window // 2:
            raise ValueError(f"overlap_s {overlap_s} is not within half of window_s {window_s}")
        self.hop_length, self.receptive_field = self.window - overlap, self.window
        place = torch.linspace(0.0, 1.0, overlap, dtype=torch.float64)
        self.register_buffer("fade", (2.0 * place - 0.5).clamp(0.0, 1.0).float(), persistent=False)

    def forward(self, noisy: Tensor, strength: Tensor | None = None) -> Tensor:
        pieces, tail = [], None
        while noisy.shape[-1] > self.window:
            finished, tail = self.one_window(noisy[..., : self.window], tail, strength)
            pieces.append(finished)
            noisy = noisy[..., self.hop_length :]
        return torch.cat([*pieces, *self.one_window(noisy, tail, strength)], dim=-1)

    def one_window(
        self, noisy: Tensor, tail: Tensor | None, strength: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One window, and the tail that the window before left -> finished samples, and a new tail.

        noisy: (B, 1, at most `window` samples). The finished samples are hop_length long. The tail
        goes to the next window; after the last window it is appended to the output.
        """
        enhanced = self._mean(noisy, strength)
        if tail is not None:
            overlap = len(self.fade)
            head = torch.lerp(tail, enhanced[..., :overlap], self.fade)
            enhanced = torch.cat([head, enhanced[..., overlap:]], dim=-1)
        return enhanced[..., : self.hop_length], enhanced[..., self.hop_length :]

    def _mean(self, noisy: Tensor, strength: Tensor | None) -> Tensor:
        """(B, 1, T) -> (B, 1, T): the mean of the network's outputs over the shifts."""
        count = 1 if self.training else self.shifts
        total = torch.zeros_like(noisy)
        for index in range(count):
            later = index * self.network.hop_length // count
            total = total + self.network(F.pad(noisy, (later, 0)), strength)[..., later:]
        return total / count
