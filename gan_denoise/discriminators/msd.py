"""The multi-scale discriminator (MelGAN: Kumar et al. 2019), in HiFi-GAN's sizes.

Kong et al. 2020, section 2.3.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from gan_denoise import contract
from gan_denoise.signal.rates import whole_ratio


class Discriminator(contract.Discriminator):
    """(B, C, T) -> one list of maps per scale.

    The scales are the wave itself, the wave averaged to half the rate, to a quarter, and so on. At
    44.1 and 48 kHz the first layer of each is 3 times as long and has a stride of 3, so that all
    layers see as much time as at 16 kHz. channels: of the first layer (the paper's 128), a multiple
    of groups; the widest layers have 8 times as many. groups: of the grouped convolutions (the
    paper's 16). Deviation: weight normalisation at every scale. The paper's first scale has
    spectral normalisation, whose power iteration moves with every pass, so that a joint pass would
    differ from two.
    """

    def __init__(
        self,
        in_channels: int = 1,
        scales: int = 3,
        channels: int = 128,
        groups: int = 16,
        sample_rate: int = 16000,
    ):
        super().__init__()
        ratio = whole_ratio(sample_rate)
        self.stacks = nn.ModuleList(
            ScaleStack(in_channels, channels, groups, ratio) for _ in range(scales)
        )

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        outputs = []
        for number, stack in enumerate(self.stacks):
            if number:
                wave = F.avg_pool1d(wave, 4, 2, padding=2)
            outputs.append(stack(wave))
        return outputs


class ScaleStack(nn.Module):
    """(B, C, T) -> maps (B, C', T'): long strided grouped convolutions.

    ratio: of the rate to 16 kHz, the first layer's stride.
    """

    def __init__(self, in_channels: int, channels: int, groups: int, ratio: int = 1):
        super().__init__()
        widths = [in_channels, *(round(factor * channels) for factor in (1, 1, 2, 4, 8, 8, 8))]
        first = 15 * ratio // 2 * 2 + 1  # an odd number
        kernels, strides = (first, 41, 41, 41, 41, 41, 5), (ratio, 2, 2, 4, 4, 1, 1)
        grouped = (1, groups // 4, groups, groups, groups, groups, 1)
        self.convolutions = nn.ModuleList(
            weight_norm(
                nn.Conv1d(ins, outs, kernel, stride, padding=kernel // 2, groups=max(1, group))
            )
            for ins, outs, kernel, stride, group in zip(
                widths[:-1], widths[1:], kernels, strides, grouped, strict=True
            )
        )
        self.score = weight_norm(nn.Conv1d(widths[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor) -> list[Tensor]:
        hidden, maps = wave, []
        for convolution in self.convolutions:
            hidden = F.leaky_relu(convolution(hidden), 0.1)
            maps.append(hidden)
        return [*maps, self.score(hidden)]
