"""SEGAN's generator: a strided convolutional encoder and decoder on the waveform, with skips.

Pascual et al. 2017. Deviations: any length (the paper: windows of 16384 samples); the wave is
divided by its local level, so that a gain on the input is the same gain on the output; the network
adds a correction to its input, so that it starts at the identity; the latent noise exists in
training only, since an enhanced file should not depend on luck.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.attention import WindowedAttention

PAPER = (16, 32, 32, 64, 64, 128, 128, 256, 256, 512, 1024)


class Generator(contract.Generator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    sample_rate: Hz. channels: of each encoder layer; the decoder mirrors them. kernel_size:
    samples, odd (the paper's are for 16 kHz; at a higher rate they last less long). stride: of
    every layer. latent: standard deviation of the noise beside the code in training (0: no such
    input; the paper's 1). level_ms: each side, over which the local level is taken.
    attention_heads: of a self-attention on the code (0: none), with attention_reach steps each
    side, as in SASEGAN (Phan et al. 2021), which attends over the whole window.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        channels: Sequence[int] = PAPER,
        kernel_size: int = 31,
        stride: int = 2,
        latent: float = 1.0,
        level_ms: float = 512.0,
        attention_heads: int = 0,
        attention_reach: int = 16,
    ):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < stride:
            raise ValueError(
                f"kernel_size must be odd and at least the stride {stride}, found {kernel_size}"
            )
        self.latent = latent
        options: Any = {"kernel_size": kernel_size, "stride": stride, "padding": kernel_size // 2}
        inner = [1, *channels]
        self.encoder = nn.ModuleList(
            nn.Conv1d(ins, outs, **options) for ins, outs in zip(inner, channels, strict=False)
        )
        code = channels[-1]
        self.attention = (
            WindowedAttention(code, attention_heads, attention_reach) if attention_heads else None
        )
        # Each layer gets the output of the layer below and a skip; the lowest gets the code and the
        # latent noise
        ins = [code * (2 if latent else 1), *(2 * width for width in reversed(channels[:-1]))]
        outs = [*reversed(channels[:-1]), 1]
        self.decoder = nn.ModuleList(
            nn.ConvTranspose1d(i, o, output_padding=stride - 1, **options)
            for i, o in zip(ins, outs, strict=True)
        )
        self.encoder_slopes = nn.ModuleList(nn.PReLU(width) for width in channels)
        self.decoder_slopes = nn.ModuleList(nn.PReLU(width) for width in outs[:-1])
        with torch.no_grad():
            self.decoder[-1].get_parameter("weight").mul_(0.1)
            self.decoder[-1].get_parameter("bias").zero_()

        self.hop_length = stride ** len(channels)
        self.level_hop = self.hop_length * max(1, round(0.008 * sample_rate / self.hop_length))
        self.level_frames = max(1, round(level_ms / 1000 * sample_rate / self.level_hop))
        self.hop_length = self.level_hop
        layers = sum((kernel_size // 2 + stride) * stride**depth for depth in range(len(channels)))
        attended = attention_reach * stride ** len(channels) if attention_heads else 0
        self.receptive_field = 2 * layers + attended + (self.level_frames + 2) * self.level_hop

    def forward(self, noisy: Tensor) -> Tensor:
        length = noisy.shape[-1]
        wave = F.pad(noisy, (0, -length % self.hop_length))
        level = self._local_level(wave)
        wave = hidden = wave / level.clamp_min(1e-7)
        skips = []
        for convolution, slope in zip(self.encoder, self.encoder_slopes, strict=True):
            hidden = slope(convolution(hidden))
            skips.append(hidden)
        if self.attention:
            hidden = self.attention(hidden.transpose(1, 2)).transpose(1, 2)
        skips.pop()
        if self.latent:
            draw = (
                self.latent * torch.randn_like(hidden)
                if self.training
                else torch.zeros_like(hidden)
            )
            hidden = torch.cat([hidden, draw], dim=1)
        for convolution, slope in zip(self.decoder, self.decoder_slopes, strict=False):
            hidden = torch.cat([slope(convolution(hidden)), skips.pop()], dim=1)
        # Without autocast: eight bits of mantissa would be audible
        with torch.autocast(hidden.device.type, enabled=False):
            correction = self.decoder[-1](hidden.to(wave.dtype))
        return ((wave + correction) * level)[..., :length]  # silence stays silence

    def _local_level(self, wave: Tensor) -> Tensor:
        """(B, 1, T) -> (B, 1, T): RMS over `level_frames` steps each side, linear in between.

        A step has `level_hop` samples.
        """
        power = F.avg_pool1d(wave.square(), self.level_hop)
        reach = self.level_frames
        mean = F.avg_pool1d(power, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
        return F.interpolate(mean.sqrt(), scale_factor=self.level_hop, mode="linear")
