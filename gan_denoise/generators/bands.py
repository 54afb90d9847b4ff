"""A small causal network whose weights are shared over frequency: what is learnt of one band serves all of them.

A convolution over frequency makes bands of the STFT's bins; in each block a recurrence runs over time, the same one in every band, and
then bands exchange what they know by learnt mixing, gated by what each holds. This is the plan of dual-path networks (DPCRN, Le et al.
2021; GTCRN, Rong et al. 2024; FastEnhancer, Ahn et al. 2025) with LSTMs, which the CPU trains fastest, and with mixing instead of
attention, since a band's place never changes. Spectra stay under power-law compression from the input to the mask, so that silencing a
bin by 20 dB is a factor of one half. One implementation serves both uses: `step` takes any number of hops and the state; `forward` is
one step over the whole signal.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise.spectral import recent_level
from gan_denoise.stft import StreamingSTFT

State = dict[str, Tensor]
_EXPONENT = 0.3  # of the compression
_STRIDE, _LEFT = 4, 2  # bins from band to band, each of which sees twice as many; bins of silence below the first
_FRAMES = 3  # that the encoder sees and the mask weighs: this one and those before


class Generator(nn.Module):
    """(B, 1, T) noisy -> (B, 1, T) enhanced; output sample t depends on no input beyond t + `latency`, and on all that was before.

    sample_rate: Hz. channels: of the fine bands (every fourth bin). bands: coarse ones, on which the blocks work, each with `width`
    channels. blocks: of recurrence and mixing. heads: ways of mixing in a block; must divide width. window_ms, hop_ms: of the STFT; the
    latency is the window. level_ms: past over which the level is taken.
    """

    receptive_field = math.inf  # recurrent

    def __init__(
        self,
        sample_rate: int = 16000,
        channels: int = 32,
        bands: int = 24,
        width: int = 64,
        blocks: int = 2,
        heads: int = 4,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        level_ms: float = 1024.0,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads} does not divide width {width}")
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = StreamingSTFT(hop_length * round(window_ms / hop_ms), hop_length)
        self.level_frames = max(1, round(level_ms / hop_ms))
        self.fine = -(-(self.stft.bins + _LEFT) // _STRIDE)
        self.embed = nn.Linear(2 * _STRIDE * 3 * _FRAMES, channels)
        self.down = BandMap(self.fine, bands)
        self.widen = nn.Linear(channels, width)
        self.blocks = nn.ModuleList(Block(bands, width, heads) for _ in range(blocks))
        self.narrow = nn.Linear(width, channels)
        self.up = BandMap(bands, self.fine)
        self.join = nn.Linear(2 * channels, channels)
        self.decoder = Neighbours(channels)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 2 * _STRIDE * 2 * (_FRAMES + 1))
        with torch.no_grad():  # start at the identity: the mask is 1 + 0i, the residual 0
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
        self.hop_length, self.latency = hop_length, self.stft.n_fft

    def initial_state(self, batch: int = 1) -> State:
        """What the first step starts from: silence. Every tensor has the batch first; the names are those of the ONNX graph."""
        like, stft = self.stft.analysis, self.stft
        state = {
            "past": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "tail": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "power": like.new_zeros(batch, self.level_frames - 1, 1),
            "age": like.new_zeros(batch, 1, 1),
            "seen": like.new_zeros(batch, _FRAMES - 1, 3, stft.bins),
        }
        for index, block in enumerate(self.blocks):
            state[f"hidden{index}"] = like.new_zeros(batch, block.bands, block.width)
            state[f"cell{index}"] = like.new_zeros(batch, block.bands, block.width)
        return state

    def forward(self, noisy: Tensor) -> Tensor:
        length, delay = noisy.shape[-1], self.latency - self.hop_length
        wave = F.pad(noisy[:, 0], (0, delay + -(length + delay) % self.hop_length))
        enhanced, _ = self.step(wave, self.initial_state(len(noisy)))
        return enhanced[:, None, delay : delay + length]

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, N hops) and the state before -> (B, N hops), which are latency - hop_length samples behind, and the state after."""
        with torch.autocast(noisy.device.type, enabled=False):  # eight bits of mantissa would be heard
            hops = noisy.unflatten(-1, (-1, self.hop_length))
            real, imaginary, past = self.stft.analyse(hops, state["past"])
            level, power, age = recent_level(real, imaginary, state["power"], state["age"])
            parts = torch.stack([real, imaginary], dim=2) / level.clamp_min(1e-7)[..., None]  # (B, N, 2, F)
            squares = parts.square().sum(dim=2, keepdim=True) + 1e-10
            parts = parts * squares ** ((_EXPONENT - 1) / 2)
            seen = torch.cat([state["seen"], torch.cat([parts, squares ** (_EXPONENT / 2)], dim=2)], dim=1)
            count, frames = parts.shape[1], seen.shape[1]
            recent = torch.stack([seen[:, shift : shift + count] for shift in range(_FRAMES)], dim=2)
            features = recent.flatten(2, 3).permute(1, 0, 3, 2)  # (N, B, F, 3 frames)
        after = {"past": past, "power": power, "age": age, "seen": seen[:, frames - _FRAMES + 1 :]}
        out, memory = self._network(features, state)
        with torch.autocast(noisy.device.type, enabled=False):
            out = out.to(parts.dtype).permute(1, 0, 3, 2)  # (B, N, 2 frames + 2, F)
            mask_real, mask_imag, residual = out.split([_FRAMES, _FRAMES, 2], dim=2)
            past_real, past_imag = recent[:, :, :, 0], recent[:, :, :, 1]
            cleaned_real = (mask_real * past_real - mask_imag * past_imag).sum(dim=2, keepdim=True)
            cleaned_imag = (mask_real * past_imag + mask_imag * past_real).sum(dim=2, keepdim=True)
            cleaned = torch.cat([cleaned_real, cleaned_imag], dim=2) + parts + residual
            squares = cleaned.square().sum(dim=2, keepdim=True) + 1e-10
            expanded = cleaned * (squares ** ((1 / _EXPONENT - 1) / 2) * level[..., None])  # silence stays silence
            enhanced, after["tail"] = self.stft.synthesise(expanded[:, :, 0], expanded[:, :, 1], state["tail"])
        return enhanced.flatten(1), after | memory

    def _network(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """(N, B, F, C) -> (N, B, F, 2 (frames + 1)), time first as recurrences want it, and what they remember."""
        bins = self.stft.bins
        missing = (self.fine + 1) * _STRIDE - _LEFT - bins
        strips = F.pad(features, (0, 0, _LEFT, missing)).unflatten(2, (-1, _STRIDE)).flatten(3)
        embedded = F.silu(self.embed(torch.cat([strips[:, :, :-1], strips[:, :, 1:]], dim=-1)))
        hidden, memory = self.widen(self.down(embedded)), {}
        for index, block in enumerate(self.blocks):
            before = state[f"hidden{index}"], state[f"cell{index}"]
            hidden, (memory[f"hidden{index}"], memory[f"cell{index}"]) = block(hidden, *before)
        hidden = self.join(torch.cat([self.up(self.narrow(hidden)), embedded], dim=-1))
        hidden = self.norm(self.decoder(hidden))
        with torch.autocast(features.device.type, enabled=False):
            first, second = self.head(hidden.to(features.dtype)).chunk(2, dim=-1)
            strips = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))
            return strips.unflatten(-1, (_STRIDE, -1)).flatten(2, 3)[:, :, _LEFT : _LEFT + bins], memory


class Neighbours(nn.Module):
    """Residual convolution over three neighbouring bands, as one matrix product: (N, B, F, C) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gather = nn.Linear(3 * channels, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        padded = F.pad(self.norm(hidden), (0, 0, 1, 1))
        near = torch.cat([padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]], dim=-1)
        return hidden + self.project(F.silu(self.gather(near)))


class BandMap(nn.Module):
    """Bands as weighted sums of other bands, the same weights in all channels: (N, B, F, C) -> (N, B, bands, C)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        place = torch.linspace(0, 1, after)[:, None] - torch.linspace(0, 1, before)
        near = torch.exp(-0.5 * (place * min(before, after)).square())  # start with what lies near
        self.weight = nn.Parameter(near / near.sum(dim=1, keepdim=True))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.matmul(self.weight, hidden)


class Block(nn.Module):
    """Recurrence over time in each band, then mixing between the bands of a frame: (N, B, bands, width) -> same."""

    def __init__(self, bands: int, width: int, heads: int):
        super().__init__()
        self.bands, self.width, self.heads = bands, width, heads
        self.time_norm, self.band_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.recurrence = nn.LSTM(width, width)
        self.value_and_gate = nn.Linear(width, 2 * width)
        self.mixing = nn.Parameter(torch.eye(bands) + torch.randn(heads, bands, bands) / bands)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor, before: Tensor, cell: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """before, cell: (B, bands, width), the recurrence's memory, as is what comes back."""
        memory = before.flatten(0, 1)[None], cell.flatten(0, 1)[None]
        update, memory = self.recurrence(self.time_norm(hidden).flatten(1, 2), memory)
        hidden = hidden + update.reshape(hidden.shape)
        value, gate = self.value_and_gate(self.band_norm(hidden)).chunk(2, dim=-1)
        mixed = torch.matmul(self.mixing, value.unflatten(-1, (self.heads, -1)).transpose(-3, -2))  # (N, B, heads, bands, C)
        mixed = mixed.transpose(-3, -2).flatten(-2) * F.silu(gate)
        after = tuple(part.reshape(before.shape).to(before.dtype) for part in memory)
        return hidden + self.project(mixed), after
