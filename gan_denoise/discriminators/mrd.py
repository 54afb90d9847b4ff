"""The multi-resolution STFT discriminator (UnivNet: Jang et al. 2021, section 2.2).

Its input is power-compressed complex bins.
"""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from gan_denoise import contract
from gan_denoise.signal.rates import samples_at
from gan_denoise.signal.stft import STFT

N_FFTS = (256, 512, 1024)  # samples at 16 kHz


class Discriminator(contract.Discriminator):
    """(B, C, T) -> one list of maps per resolution.

    n_ffts: samples, with hops of a quarter (16, 32 and 64 ms). channels: of every layer (the
    paper's 32). Deviations: the paper's input is magnitudes; here it is the real and the imaginary
    part after compression with exponent 0.3, so that phase and quiet bins count; the windows are
    for speech at 16 kHz; strides go along frequency; the leaky ReLUs have the slope of the other
    discriminators.
    """

    def __init__(
        self,
        in_channels: int = 1,
        n_ffts: Sequence[int] | None = None,
        channels: int = 32,
        sample_rate: int = 16000,
    ):
        super().__init__()
        n_ffts = n_ffts or [samples_at(n_fft, sample_rate, multiple=4) for n_fft in N_FFTS]
        self.stacks = nn.ModuleList(
            ResolutionStack(in_channels, n_fft, channels) for n_fft in n_ffts
        )

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        return [stack(wave) for stack in self.stacks]


class ResolutionStack(nn.Module):
    """2-D convolutions over time and frequency: (B, C, T) -> maps (B, C', N, F').

    Strides go along frequency.
    """

    def __init__(self, in_channels: int, n_fft: int, channels: int):
        super().__init__()
        self.stft = STFT(n_fft, n_fft // 4)
        shapes = [((3, 9), (1, 1)), *[((3, 9), (1, 2))] * 3, ((3, 3), (1, 1))]
        widths = [2 * in_channels, *[channels] * len(shapes)]
        self.convolutions = nn.ModuleList(
            weight_norm(
                nn.Conv2d(ins, outs, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2))
            )
            for ins, outs, (kernel, stride) in zip(widths[:-1], widths[1:], shapes, strict=True)
        )
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        spectrum = self.stft(rearrange(wave, "batch channel time -> (batch channel) time"))
        power = spectrum.square().sum(dim=1, keepdim=True).clamp_min(1e-8)
        hidden = rearrange(
            spectrum * power**-0.35,
            "(batch channel) part frames bins -> batch (channel part) frames bins",
            batch=len(wave),
        )
        maps = []
        for convolution in self.convolutions:
            hidden = F.leaky_relu(convolution(hidden), 0.1)
            maps.append(hidden)
        return [*maps, self.score(hidden)]
