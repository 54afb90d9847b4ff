"""The frame of spectral generators: stft -> features -> (a subclass's network over time) -> complex
mask and residual -> istft.

Frequency bins are channels and time is the axis, as in Vocos (Siuzdak 2023). A mask in [0, 1]
cannot bring back a bin that was zeroed, hence an unbounded complex mask plus a residual. The input
is divided by its own local level, so a gain on the input is the same gain on the output, by
construction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.stft import STFT


class SpectralGenerator(nn.Module):
    """(B, 1, T) noisy -> (B, 1, T) enhanced. A subclass gives `body`: (B, N, 3 bins) features ->
    (B, N, width).

    sample_rate: Hz. width: channels of the body's output. context: frames each side that the body
    reaches. grid: frames on whose multiples a signal may be cut. window_ms, hop_ms: of the STFT.
    level_ms: each side, over which the local level is taken.
    """

    def __init__(
        self,
        sample_rate: int,
        width: int,
        *,
        context: int,
        grid: int = 1,
        window_ms: float,
        hop_ms: float,
        level_ms: float,
    ):
        super().__init__()
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = STFT(hop_length * round(window_ms / hop_ms), hop_length)
        self.level_frames = round(level_ms / hop_ms)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4 * self.stft.bins)
        with torch.no_grad():  # start at the identity: the mask is 1 + 0i, the residual 0
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
        self.hop_length = grid * hop_length
        self.receptive_field = (self.level_frames + context) * hop_length + self.stft.n_fft

    def body(self, features: Tensor) -> Tensor:
        """(B, N, 3 bins) -> (B, N, width)."""
        raise NotImplementedError

    def forward(self, noisy: Tensor) -> Tensor:
        real, imaginary = self.stft(noisy[:, 0])
        level = self._local_level(real, imaginary)
        scale = 1.0 / level.clamp_min(1e-7)
        real, imaginary = real * scale, imaginary * scale
        # Power-law compression (exponent 0.3) brings quiet bins into a range that a network sees
        magnitude = (real.square() + imaginary.square()).clamp_min(1e-10).sqrt()
        compression = magnitude.pow(-0.7)
        features = torch.cat(
            [magnitude * compression, real * compression, imaginary * compression], dim=1
        )
        hidden = self.norm(self.body(features.transpose(1, 2)))
        # Eight bits of mantissa would be heard
        with torch.autocast(hidden.device.type, enabled=False):
            out = self.head(hidden.to(self.head.weight.dtype)).transpose(1, 2)
        mask_real, mask_imag, residual_real, residual_imag = out.chunk(4, dim=1)
        mask_real = 1.0 + mask_real
        # Silence stays silence
        out_real = (mask_real * real - mask_imag * imaginary + residual_real) * level
        out_imag = (mask_real * imaginary + mask_imag * real + residual_imag) * level
        return self.stft.inverse(out_real, out_imag, noisy.shape[-1])[:, None]

    def _local_level(self, real: Tensor, imaginary: Tensor) -> Tensor:
        """(B, F, N) twice -> (B, 1, N): RMS magnitude over `level_frames` frames each side."""
        power = (real.square() + imaginary.square()).mean(dim=1, keepdim=True)
        reach = self.level_frames
        mean = F.avg_pool1d(power, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
        return mean.sqrt()


def recent_level(
    real: Tensor, imaginary: Tensor, past: Tensor, age: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The causal level: RMS magnitude over the last frames that there are, at most 1 more than
    `past` holds.

    real, imaginary (B, N, F); past (B, frames - 1, 1): powers of the frames before; age (B, 1, 1):
    how many there have been, at most `frames`. Returns the level (B, N, 1), and past and age for
    what follows.
    """
    count, frames = real.shape[1], past.shape[1] + 1
    power = (real.square() + imaginary.square()).mean(dim=-1, keepdim=True)
    powers = torch.cat([past, power], dim=1)
    mean = F.avg_pool1d(powers.transpose(1, 2), frames, stride=1).transpose(1, 2)
    ages = (age + torch.ones_like(power).cumsum(dim=1)).clamp_max(frames)
    return (mean * frames / ages).sqrt(), powers[:, count:], ages[:, -1:]
