"""A spectral ConvNeXt: stft -> residual blocks over time -> complex mask and complex residual -> istft.

Frequency bins are channels and time is the axis of the convolutions, as in Vocos (Siuzdak 2023); the blocks are
ConvNeXt's (Liu et al. 2022) in one dimension. A mask in [0, 1] cannot bring back a bin that was zeroed, hence an
unbounded complex mask plus a residual. The input is divided by its own local level, so a gain on the input is the same
gain on the output, by construction.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.stft import STFT


class Generator(nn.Module):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    sample_rate: Hz. width: channels. blocks: number of residual blocks. kernel_size: frames, odd. window_ms, hop_ms: of
    the STFT (32 and 8 ms: 512 and 128 samples at 16 kHz). level_ms: each side, over which the local level is taken. dropout: share of the blocks' hidden channels
    that training drops.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        width: int = 128,
        blocks: int = 6,
        kernel_size: int = 7,
        window_ms: float = 32.0,
        hop_ms: float = 8.0,
        level_ms: float = 512.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, found {kernel_size}")
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = STFT(hop_length * round(window_ms / hop_ms), hop_length)
        self.level_frames = round(level_ms / hop_ms)
        bins = self.stft.bins
        self.embed = nn.Linear(3 * bins, width)
        self.blocks = nn.Sequential(*(Block(width, kernel_size, 1.0 / blocks, dropout) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4 * bins)
        with torch.no_grad():  # start at the identity: the mask is 1 + 0i, the residual 0
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
        self.hop_length = hop_length
        context = self.level_frames + blocks * (kernel_size // 2)
        self.receptive_field = context * hop_length + self.stft.n_fft

    def forward(self, noisy: Tensor) -> Tensor:
        spectrum = self.stft(noisy[:, 0])
        level = self._local_level(spectrum)
        spectrum = spectrum / level.clamp_min(1e-7)
        # Power-law compression (exponent 0.3) brings quiet bins into a range that a network sees
        magnitude = spectrum.abs().clamp_min(1e-5)
        compressed = spectrum * magnitude**-0.7
        features = torch.cat([magnitude**0.3, compressed.real, compressed.imag], dim=1)
        hidden = self.blocks(self.embed(features.transpose(1, 2)))
        out = self.head(self.norm(hidden)).transpose(1, 2).float()
        mask_real, mask_imag, residual_real, residual_imag = out.chunk(4, dim=1)
        mask = torch.complex(1.0 + mask_real, mask_imag)
        enhanced = (mask * spectrum + torch.complex(residual_real, residual_imag)) * level  # silence stays silence
        return self.stft.inverse(enhanced, noisy.shape[-1])[:, None]

    def _local_level(self, spectrum: Tensor) -> Tensor:
        """(B, F, N) complex -> (B, 1, N): RMS magnitude over `level_frames` frames each side."""
        power = (spectrum.real**2 + spectrum.imag**2).mean(dim=1, keepdim=True)
        reach = self.level_frames
        mean = F.avg_pool1d(power, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
        return mean.sqrt()


class Block(nn.Module):
    """ConvNeXt block over time: depthwise convolution, LayerNorm, expansion by 4, GELU, layer scale: (B, N, C) -> same."""

    def __init__(self, width: int, kernel_size: int, initial_scale: float, dropout: float):
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.project = nn.Linear(4 * width, width)
        self.dropout = dropout
        self.scale = nn.Parameter(torch.full((width,), initial_scale))

    def forward(self, hidden: Tensor) -> Tensor:
        update = self.depthwise(hidden.transpose(1, 2)).transpose(1, 2)
        update = F.gelu(self.expand(self.norm(update)))
        if self.training and self.dropout:  # whole channels: one draw for all frames of an item
            update = update * F.dropout(torch.ones_like(update[:, :1]), self.dropout)
        return hidden + self.scale * self.project(update)
