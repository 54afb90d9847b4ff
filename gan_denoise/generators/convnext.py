"""A spectral ConvNeXt: residual blocks between an STFT and its inverse, as in Vocos.

The blocks are those of Liu et al. 2022, in one dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.attention import WindowedAttention
from gan_denoise.signal.spectral import SpectralGenerator, drop_channels


class Generator(SpectralGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    sample_rate: Hz. width: channels. blocks: number of residual blocks. kernel_size: frames, odd.
    window_ms, hop_ms: of the STFT (32 and 8 ms: 512 and 128 samples at 16 kHz). level_ms: each
    side, over which the local level is taken. dropout: share of the blocks' hidden channels that
    training drops. attention_heads: of a self-attention in the middle (0: none), which sees
    attention_reach frames each side.
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
        attention_heads: int = 0,
        attention_reach: int = 32,
    ):
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, found {kernel_size}")
        context = blocks * (kernel_size // 2) + (attention_reach if attention_heads else 0)
        super().__init__(
            sample_rate,
            width,
            context=context,
            window_ms=window_ms,
            hop_ms=hop_ms,
            level_ms=level_ms,
        )
        self.embed = nn.Linear(3 * self.stft.bins, width)
        layers: list[nn.Module] = [
            ConvNeXtBlock(width, kernel_size, 1.0 / blocks, dropout) for _ in range(blocks)
        ]
        if attention_heads:
            layers.insert(blocks // 2, WindowedAttention(width, attention_heads, attention_reach))
        self.layers = nn.Sequential(*layers)

    def body(self, features: Tensor) -> Tensor:
        return self.layers(self.embed(features))


class ConvNeXtBlock(nn.Module):
    """ConvNeXt block over time: (B, N, C) -> same.

    Depthwise convolution, LayerNorm, expansion by 4, GELU, layer scale.
    """

    def __init__(self, width: int, kernel_size: int, initial_scale: float, dropout: float):
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, kernel_size, padding=kernel_size // 2, groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.project = nn.Linear(4 * width, width)
        self.dropout = dropout
        self.scale = nn.Parameter(torch.full((width,), initial_scale))

    def forward(self, hidden: Tensor) -> Tensor:
        # A 2-D convolution accepts channels in the last place in memory, where all other layers
        # have them: that takes a third of the time of nn.Conv1d, which moves them to the front
        seen, weight = hidden.transpose(1, 2)[:, :, None], self.depthwise.weight[:, :, None]
        padding = 0, self.depthwise.kernel_size[0] // 2
        update = F.conv2d(
            seen, weight, self.depthwise.bias, padding=padding, groups=self.depthwise.groups
        )
        update = update[:, :, 0].transpose(1, 2)
        update = F.gelu(self.expand(self.norm(update)))
        if self.training and self.dropout:
            update = drop_channels(update, self.dropout, dim=1)
        return hidden + self.scale * self.project(update)
