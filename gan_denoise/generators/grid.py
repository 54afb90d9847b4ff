"""A network over frequency and time on the STFT of the noising procedure.

The procedure changes single bins of an STFT with redundancy R = n_fft / hop; the inverse transform
spreads each change over the bins nearby, by a known kernel, whose phase repeats every R bins. So
the network works on strips of R bins and shares its weights over strips. Its residual blocks of
gated convolutions (Dauphin et al. 2017) look at nearby frequencies and times, and let the strips of
a frame exchange their contents. A bin of the output is a complex filter over the bins around it
(deep filtering, Mack and Habets 2020) plus a residual, so that energy that leaked into the
neighbours can be brought back. Segments that begin on the procedure's hop (`cut` in an experiment)
gave worse results than free ones: NOTES.md.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.signal.rates import samples_at
from gan_denoise.signal.spectral import drop_channels, local_level, start_at_the_identity
from gan_denoise.signal.stft import STFT

_EXPONENT = 0.3  # of the compression of the network's input


class Generator(contract.Generator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    sample_rate: Hz. n_fft, hop_length: of the STFT, in samples (64 and 16 ms). width: channels of a
    strip, a multiple of 4. blocks: of convolution and exchange; the three frames that block i sees
    lie 2^(i mod dilations) apart. reach: bins and frames each side that the filter of an output bin
    holds. level_ms: each side, over which the local level is taken. dropout: share of the hidden
    channels that training drops.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int | None = None,
        hop_length: int | None = None,
        width: int = 48,
        blocks: int = 6,
        dilations: int = 3,
        reach: int = 1,
        level_ms: float = 512.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        if width % 4:  # a block exchanges a quarter of the channels
            raise ValueError(f"width must be a multiple of 4, found {width}")
        n_fft = n_fft or samples_at(1024, sample_rate, multiple=4)
        hop_length = hop_length or samples_at(256, sample_rate)
        self.stft = STFT(n_fft, hop_length)
        self.strip, self.reach = n_fft // hop_length, reach
        self.strips = -(-self.stft.bins // self.strip)
        self.level_frames = round(level_ms * sample_rate / 1000 / hop_length)
        self.taps = (2 * reach + 1) ** 2
        spread = self.strip - 1  # frames each side that share samples
        self.embed = nn.Conv2d(3 * self.strip, width, (3, 2 * spread + 1), padding=(1, spread))
        steps = [2 ** (index % dilations) for index in range(blocks)]
        self.blocks = nn.ModuleList(GridBlock(width, self.strips, step, dropout) for step in steps)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, self.strip * (2 * self.taps + 2))
        start_at_the_identity(self.head)
        self.hop_length = hop_length
        frames = spread + sum(steps) + reach + self.level_frames
        self.receptive_field = frames * hop_length + n_fft

    def forward(self, noisy: Tensor) -> Tensor:
        with torch.autocast(noisy.device.type, enabled=False):
            spectrum = self.stft(noisy[:, 0])
            level = local_level(spectrum, self.level_frames)
            # From here on bins come before frames, since strips of bins become channels
            parts = (spectrum / level.clamp_min(1e-7)).transpose(2, 3)
            squares = parts.square().sum(dim=1, keepdim=True).clamp_min(1e-10)
            scale = squares ** ((_EXPONENT - 1) / 2)
            features = torch.cat([parts * scale, squares ** (_EXPONENT / 2)], dim=1)
        strips = self._strips(features).to(memory_format=torch.channels_last)
        hidden = self.embed(strips)
        for block in self.blocks:
            hidden = block(hidden)
        hidden = self.norm(hidden.permute(0, 2, 3, 1))  # (B, strips, N, width)
        with torch.autocast(noisy.device.type, enabled=False):
            out = self.head(hidden.to(self.head.weight.dtype)).unflatten(-1, (self.strip, -1))
            out = out.permute(0, 4, 1, 3, 2).flatten(2, 3)[:, :, : self.stft.bins]
            weights, residual = out[:, :-2].unflatten(1, (2, self.taps)), out[:, -2:]
            cleaned = self._filtered(parts, weights) + parts + residual / scale
            cleaned = cleaned.transpose(2, 3) * level  # last, so silence stays silence
            return self.stft.inverse(cleaned, noisy.shape[-1])[:, None]

    def _strips(self, features: Tensor) -> Tensor:
        """(B, C, F, N) -> (B, strip C, strips, N)."""
        missing = self.strips * self.strip - self.stft.bins
        strips = F.pad(features, (0, 0, 0, missing)).unflatten(2, (self.strips, self.strip))
        return strips.transpose(2, 3).flatten(1, 2)

    def _filtered(self, parts: Tensor, weights: Tensor) -> Tensor:
        """Bins (B, 2, F, N) under complex filters (B, 2, taps, F, N) over the bins around each."""
        bins, frames, reach = *parts.shape[2:], self.reach
        around = F.pad(parts, (reach,) * 4)
        total = torch.zeros_like(parts)
        for tap in range(self.taps):
            up, along = divmod(tap, 2 * reach + 1)
            real, imaginary = around[:, :, up : up + bins, along : along + frames].unbind(dim=1)
            weight_real, weight_imag = weights[:, :, tap].unbind(dim=1)
            total = total + torch.stack(
                [
                    weight_real * real - weight_imag * imaginary,
                    weight_real * imaginary + weight_imag * real,
                ],
                dim=1,
            )
        return total


class GridBlock(nn.Module):
    """Gated convolution over strips and frames, and an exchange between all strips of a frame.

    (B, C, strips, N) -> same.
    """

    def __init__(self, width: int, strips: int, step: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.near = nn.Conv2d(width, 2 * width, 3, padding=(1, step), dilation=(1, step))
        self.send = nn.Linear(width, width // 4)
        self.far = nn.Linear(strips, strips)
        self.receive = nn.Linear(width // 4, width)
        self.project = nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, hidden: Tensor) -> Tensor:
        seen = self.norm(hidden.permute(0, 2, 3, 1))
        far = self.far(self.send(seen).transpose(1, 3)).transpose(1, 3)
        value, gate = self.near(seen.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).chunk(2, dim=-1)
        update = (value + self.receive(far)) * F.silu(gate)
        if self.training and self.dropout:
            update = drop_channels(update.flatten(1, 2), self.dropout, dim=1).view_as(update)
        return hidden + self.project(update).permute(0, 3, 1, 2)
