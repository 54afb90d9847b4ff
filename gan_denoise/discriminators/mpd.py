"""The multi-period discriminator (HiFi-GAN: Kong et al. 2020, section 2.3 and appendix B)."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from gan_denoise import contract
from gan_denoise.signal.rates import whole_ratio

PERIODS = (2, 3, 5, 7, 11)  # samples at 16 kHz


class Discriminator(contract.Discriminator):
    """(B, C, T) -> one list of maps per period.

    periods: samples; each sub-discriminator sees every p-th sample. By default they are the paper's
    2, 3, 5, 7 and 11, and 3 times as many at 44.1 and 48 kHz. channels: of the first layer
    (the paper's 32), then 4, 16, 32 and 32 times as many.
    """

    def __init__(
        self,
        in_channels: int = 1,
        periods: Sequence[int] | None = None,
        channels: int = 32,
        sample_rate: int = 16000,
    ):
        super().__init__()
        self.periods = list(periods or (whole_ratio(sample_rate) * p for p in PERIODS))
        self.stacks = nn.ModuleList(PeriodStack(in_channels, channels) for _ in self.periods)

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        return [
            stack(wave, period) for stack, period in zip(self.stacks, self.periods, strict=True)
        ]


class PeriodStack(nn.Module):
    """Strided convolutions along one phase of the period: (B, C, T), p -> maps (B p, C', T').

    The paper writes a 2-D convolution with kernel (5, 1) on (B, C, T / p, p), which treats each
    column by itself. Here the columns are items, and the convolution has one dimension. The maps
    hold the same numbers in another order.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        widths = [in_channels, *(factor * channels for factor in (1, 4, 16, 32, 32))]
        strides = (3, 3, 3, 3, 1)
        self.convolutions = nn.ModuleList(
            weight_norm(nn.Conv1d(ins, outs, 5, stride, padding=2))
            for ins, outs, stride in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor, period: int) -> list[Tensor]:
        missing = -wave.shape[-1] % period
        hidden = F.pad(
            wave, (0, missing), mode="reflect" if missing < wave.shape[-1] else "constant"
        )
        hidden = rearrange(
            hidden, "batch channel (time period) -> (batch period) channel time", period=period
        )
        maps = []
        for convolution in self.convolutions:
            hidden = F.leaky_relu(convolution(hidden), 0.1)
            maps.append(hidden)
        return [*maps, self.score(hidden)]
