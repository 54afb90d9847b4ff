"""HiFi-GAN's multi-receptive-field residual blocks as a denoising encoder-decoder.

The paper's generator (Kong et al. 2020, section 2.2) climbs from mel frames to samples. Here the
input is noisy speech, so an STFT leads down and its inverse up (as in iSTFTNet, Kaneko et al.
2022), and the blocks work between them, at one or more time scales with skips.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from gan_denoise.signal.spectral import SpectralGenerator, drop_channels


class Generator(SpectralGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    width: channels at the frames' own rate; each further scale has half the rate. scales: number of
    rates. kernel_sizes, dilations: of the residual blocks, in frames (the paper's V1). window_ms,
    hop_ms, level_ms: see SpectralGenerator. dropout: share of the channels that training drops
    before each decoder stage.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        width: int = 128,
        scales: int = 2,
        kernel_sizes: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
        window_ms: float = 32.0,
        hop_ms: float = 8.0,
        level_ms: float = 512.0,
        dropout: float = 0.0,
    ):
        if any(kernel % 2 == 0 for kernel in kernel_sizes):
            raise ValueError(f"kernel_sizes must be odd, found {list(kernel_sizes)}")
        fusion = max(
            sum((kernel - 1) // 2 * (dilation + 1) for dilation in dilations)
            for kernel in kernel_sizes
        )
        # Each scale has two fusions, a kernel of 4 down and one up; the lowest has one fusion
        context = (
            3
            + sum(2**scale * (2 * fusion + 6) for scale in range(scales - 1))
            + 2 ** (scales - 1) * fusion
        )
        super().__init__(
            sample_rate,
            width,
            context=context,
            grid=2 ** (scales - 1),
            window_ms=window_ms,
            hop_ms=hop_ms,
            level_ms=level_ms,
        )
        self.dropout, self.grid = dropout, 2 ** (scales - 1)
        self.embed = nn.Conv1d(3 * self.stft.bins, width, 7, padding=3)
        sizes = (width, kernel_sizes, dilations)
        self.encoder = nn.ModuleList(Fusion(*sizes) for _ in range(scales - 1))
        self.down = nn.ModuleList(
            nn.Conv1d(width, width, 4, 2, padding=1) for _ in range(scales - 1)
        )
        self.middle = Fusion(*sizes)
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(width, width, 4, 2, padding=1) for _ in range(scales - 1)
        )
        self.decoder = nn.ModuleList(Fusion(*sizes) for _ in range(scales - 1))

    def body(self, features: Tensor) -> Tensor:
        frames = features.shape[1]
        hidden = self.embed(features.transpose(1, 2))
        hidden = F.pad(hidden, (0, -frames % self.grid))
        skips = []
        for fusion, down in zip(self.encoder, self.down, strict=True):
            hidden = fusion(hidden)
            skips.append(hidden)
            hidden = down(F.leaky_relu(hidden, 0.1))
        hidden = self.middle(self._drop(hidden))
        for up, fusion in zip(self.up, self.decoder, strict=True):
            hidden = fusion(self._drop(up(F.leaky_relu(hidden, 0.1)) + skips.pop()))
        return hidden[..., :frames].transpose(1, 2)

    def _drop(self, hidden: Tensor) -> Tensor:
        if self.training and self.dropout:
            hidden = drop_channels(hidden, self.dropout, dim=-1)
        return hidden


class Fusion(nn.Module):
    """Multi-receptive-field fusion, the mean of residual blocks: (B, C, N) -> same.

    Each block has another kernel size.
    """

    def __init__(self, width: int, kernel_sizes: Sequence[int], dilations: Sequence[int]):
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(width, kernel, dilations) for kernel in kernel_sizes
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return sum(block(hidden) for block in self.blocks) / len(self.blocks)


class ResidualBlock(nn.Module):
    """A dilated and a plain convolution with a residual connection, for each dilation.

    It is the paper's ResBlock1.
    """

    def __init__(self, width: int, kernel: int, dilations: Sequence[int]):
        super().__init__()
        self.dilated = nn.ModuleList(
            weight_norm(
                nn.Conv1d(width, width, kernel, dilation=dilation, padding=kernel // 2 * dilation)
            )
            for dilation in dilations
        )
        self.plain = nn.ModuleList(
            weight_norm(nn.Conv1d(width, width, kernel, padding=kernel // 2)) for _ in dilations
        )

    def forward(self, hidden: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            hidden = hidden + plain(F.leaky_relu(dilated(F.leaky_relu(hidden, 0.1)), 0.1))
        return hidden
