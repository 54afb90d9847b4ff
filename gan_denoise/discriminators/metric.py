"""The metric discriminator: one score for a whole excerpt, from its magnitudes.

MetricGAN: Fu et al. 2019; CMGAN: Cao et al. 2022. Under an experiment's `adversary.metric` it gets
(clean, x) and learns the PESQ of x (training/critic.py); under `discriminators` it tells real from
fake as all others do.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from gan_denoise import contract
from gan_denoise.signal.rates import samples_at
from gan_denoise.signal.stft import STFT


class UnitNorm(nn.Module):
    """A weight, divided by its largest singular value: (out, ...) -> same.

    Miyato et al. 2018 estimate that value; here it is exact, so that no pass depends on an earlier
    one.
    """

    def forward(self, weight: Tensor) -> Tensor:
        return weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2)

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight


def steady(layer: nn.Module) -> nn.Module:
    """Bound how much a layer enlarges a difference.

    So a small change of the input, such as one that only pleases the critic, cannot change the
    score much.
    """
    parametrize.register_parametrization(layer, "weight", UnitNorm())
    return layer


class Discriminator(contract.Discriminator):
    """(B, C, T) -> one list of maps (B, C', F', N'), the score (B, 1) last.

    n_fft: samples, with hops of half as many (32 ms). channels: of the first layer, twice as many
    in each further one. Deviations from the papers: magnitudes are compressed with exponent 0.3, so
    that the noise left between words counts; there is no normalisation across the map, which would
    hide the level of that noise; only the mean over time is taken, so that the dense layers can
    tell the bands apart, as PESQ does. All layers but the last are `steady`: without that PESQ
    falls (egs/vctk/NOTES.md).
    """

    LAYERS = 4  # each halves both axes

    def __init__(
        self,
        in_channels: int = 2,
        n_fft: int | None = None,
        channels: int = 16,
        sample_rate: int = 16000,
    ):
        super().__init__()
        n_fft = n_fft or samples_at(512, sample_rate, multiple=2)
        self.stft = STFT(n_fft, n_fft // 2)
        widths = [in_channels, *(channels << layer for layer in range(self.LAYERS))]
        self.convolutions = nn.ModuleList(
            steady(nn.Conv2d(ins, outs, kernel_size=4, stride=2, padding=1))
            for ins, outs in zip(widths[:-1], widths[1:], strict=True)
        )
        bands = self.stft.bins >> self.LAYERS
        self.dense = steady(nn.Linear(widths[-1] * bands, 64))
        self.score = nn.Linear(64, 1)  # not steady, since the slope of PESQ may be steep

    def forward(self, wave: Tensor) -> list[list[Tensor]]:
        spectrum = self.stft(rearrange(wave, "batch channel time -> (batch channel) time"))
        magnitude = spectrum.square().sum(dim=1).clamp_min(1e-8) ** 0.15
        hidden = rearrange(
            magnitude, "(batch channel) frames bins -> batch channel bins frames", batch=len(wave)
        )
        hidden = F.pad(hidden, (0, max(0, (1 << self.LAYERS) - hidden.shape[-1])))
        maps = []
        for convolution in self.convolutions:
            hidden = F.leaky_relu(convolution(hidden), 0.1)
            maps.append(hidden)
        hidden = F.leaky_relu(self.dense(hidden.mean(dim=-1).flatten(1)), 0.1)
        return [[*maps, hidden, self.score(hidden)]]
