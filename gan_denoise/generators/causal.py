"""A causal spectral ConvNeXt for live use: it hears the past and one window ahead.

The blocks of convnext.py, with dilated convolutions that look back only (as in TCNs, Bai et al.
2018, and Conv-TasNet), stand between a streaming STFT and its inverse. One implementation serves
both uses: `step`, which takes any number of hops and the state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.contract import State
from gan_denoise.signal.spectral import (
    compressed,
    drop_channels,
    masked,
    recent_level,
    start_at_the_identity,
)
from gan_denoise.signal.stft import StreamingSTFT


class Generator(contract.StreamingGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    Output sample t depends on no input beyond t + `latency`. sample_rate: Hz. width: channels.
    expansion: of the blocks' hidden channels. dilations: of the blocks, in frames. kernel_size:
    taps of each. window_ms, hop_ms: of the STFT; the latency is the window. level_ms: past over
    which the level is taken. dropout: share of the blocks' hidden channels that training drops.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        width: int = 128,
        expansion: int = 3,
        dilations: Sequence[int] = (1, 2, 4, 8, 1, 2, 4),
        kernel_size: int = 5,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        level_ms: float = 1024.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = StreamingSTFT(hop_length * round(window_ms / hop_ms), hop_length)
        self.level_frames, self.width = max(1, round(level_ms / hop_ms)), width
        self.embed = nn.Linear(3 * self.stft.bins, width)
        blocks = [
            CausalBlock(width, expansion, kernel_size, dilation, 1.0 / len(dilations), dropout)
            for dilation in dilations
        ]
        self.blocks = nn.ModuleList(blocks)
        self.spans = [block.span for block in blocks]
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 4 * self.stft.bins)
        start_at_the_identity(self.head)
        self.hop_length, self.latency = hop_length, self.stft.n_fft
        self.receptive_field = (
            self.level_frames + sum(self.spans)
        ) * hop_length + 2 * self.stft.n_fft

    def initial_state(self, batch: int = 1) -> State:
        like, stft = self.stft.windows, self.stft
        state = {
            "past": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "tail": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "heard": like.new_zeros(batch, 2, self.level_frames - 1, 1),
        }
        return state | {
            f"block{index}": like.new_zeros(batch, span, self.width)
            for index, span in enumerate(self.spans)
        }

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        # Without autocast: eight bits of mantissa would be audible
        with torch.autocast(noisy.device.type, enabled=False):
            hops = noisy.unflatten(-1, (-1, self.hop_length))
            spectrum, past = self.stft.analyse(hops, state["past"])
            level, heard = recent_level(spectrum, state["heard"])
            spectrum, features = compressed(spectrum, level)
        hidden, after = self.embed(features), {"past": past, "heard": heard}
        for index, block in enumerate(self.blocks):
            hidden, after[f"block{index}"] = block(hidden, state[f"block{index}"])
        hidden = self.norm(hidden)
        with torch.autocast(noisy.device.type, enabled=False):
            cleaned = masked(spectrum, self.head(hidden.to(spectrum.dtype)), level)
            enhanced, after["tail"] = self.stft.synthesise(cleaned, state["tail"])
        return enhanced.flatten(1), after


class CausalBlock(nn.Module):
    """ConvNeXt block that looks back only.

    Dilated depthwise convolution, LayerNorm, expansion, GELU, layer scale.
    """

    def __init__(
        self,
        width: int,
        expansion: int,
        kernel_size: int,
        dilation: int,
        initial_scale: float,
        dropout: float,
    ):
        super().__init__()
        self.span, self.dropout = (kernel_size - 1) * dilation, dropout
        # `forward` uses the weights of this layer, but not its convolution
        self.depthwise = nn.Conv1d(width, width, kernel_size, dilation=dilation, groups=width)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), initial_scale))

    def forward(self, hidden: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (B, N, C), past (B, span, C) -> the same shapes."""
        seen = torch.cat([past.to(hidden.dtype), hidden], dim=1)
        (dilation,), count = self.depthwise.dilation, hidden.shape[1]
        update: Tensor = self.depthwise.get_parameter("bias")
        # Tap by tap is faster than a convolution, above all for one frame
        for tap, weight in enumerate(self.depthwise.weight[:, 0].unbind(dim=1)):
            update = torch.addcmul(update, seen[:, tap * dilation : tap * dilation + count], weight)
        update = F.gelu(self.expand(self.norm(update)))
        if self.training and self.dropout:
            update = drop_channels(update, self.dropout, dim=1)
        return hidden + self.scale * self.project(update), seen[:, hidden.shape[1] :]
