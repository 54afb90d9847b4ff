"""A small causal network whose weights are shared over frequency: what one band learns serves all.

A convolution over frequency makes bands of the STFT's bins; in each block a recurrence runs over
time, the same one in every band, and then the bands of a frame exchange what they know by learnt
mixing, gated by what each holds. This is the plan of dual-path networks (DPCRN, Le et al. 2021;
GTCRN, Rong et al. 2024; FastEnhancer, Ahn et al. 2025) with LSTMs, which a CPU trains faster than
GRUs, and with mixing instead of attention, since a band never changes its place. Spectra stay under
power-law compression from the input to the mask, so that 20 dB less is a factor of one half. One
implementation serves both uses: `step`, which takes any number of hops and the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.contract import State
from gan_denoise.spectral import recent_level, start_at_the_identity
from gan_denoise.stft import StreamingSTFT, successive

_EXPONENT = 0.3  # of the compression
_STRIDE = 4  # bins from one fine band to the next, each of which sees twice as many
_BELOW = 2  # bins of silence below the first
_FRAMES = 3  # that the network sees and the mask weighs: this one and those before


class Generator(contract.StreamingGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    Output sample t depends on no input beyond t + `latency`, and on all that was before.

    sample_rate: Hz. channels: of the fine bands (every fourth bin). bands: coarse ones, on which
    the blocks work, each with `width` channels. blocks: of recurrence and mixing. heads: ways of
    mixing in a block; must divide width. window_ms, hop_ms: of the STFT; the latency is the window.
    level_ms: past over which the level is taken.
    """

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
        self.fine = -(-(self.stft.bins + _BELOW) // _STRIDE)
        self.embed = nn.Linear(2 * _STRIDE * 3 * _FRAMES, channels)
        self.down = BandMap(self.fine, bands)
        self.widen = nn.Linear(channels, width)
        self.coarse = bands, width
        self.blocks = nn.ModuleList(Block(bands, width, heads) for _ in range(blocks))
        self.narrow = nn.Linear(width, channels)
        self.up = BandMap(bands, self.fine)
        self.join = nn.Linear(2 * channels, channels)
        self.decoder = Neighbours(channels)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 2 * _STRIDE * 2 * (_FRAMES + 1))
        start_at_the_identity(self.head)
        self.hop_length, self.latency = hop_length, self.stft.n_fft

    def initial_state(self, batch: int = 1) -> State:
        like, stft = self.stft.analysis, self.stft
        state = {
            "past": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "tail": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "power": like.new_zeros(batch, self.level_frames - 1, 1),
            "age": like.new_zeros(batch, 1, 1),
            "seen": like.new_zeros(batch, _FRAMES - 1, 3, stft.bins),
        }
        for index in range(len(self.blocks)):
            for name in ("hidden", "cell"):
                state[f"{name}{index}"] = like.new_zeros(batch, *self.coarse)
        return state

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        # Eight bits of mantissa would be heard: bf16 is for the network alone
        with torch.autocast(noisy.device.type, enabled=False):
            hops = noisy.unflatten(-1, (-1, self.hop_length))
            spectrum, past = self.stft.analyse(hops, state["past"])
            level, power, age = recent_level(spectrum, state["power"], state["age"])
            level = level[..., None]
            parts, magnitude = _power_law(spectrum / level.clamp_min(1e-7), _EXPONENT)
            seen = torch.cat([state["seen"], torch.cat([parts, magnitude], dim=2)], dim=1)
            recent = torch.cat(successive(seen, _FRAMES), dim=2)  # (B, N, 3 frames, F)
        after = {"past": past, "power": power, "age": age, "seen": seen[:, 1 - _FRAMES :]}
        out, memory = self._network(recent.permute(1, 0, 3, 2), state)
        with torch.autocast(noisy.device.type, enabled=False):
            mask_real, mask_imag, residual = out.split([_FRAMES, _FRAMES, 2], dim=2)
            real, imaginary = recent[:, :, 0::3], recent[:, :, 1::3]
            out_real = (mask_real * real - mask_imag * imaginary).sum(dim=2, keepdim=True)
            out_imag = (mask_real * imaginary + mask_imag * real).sum(dim=2, keepdim=True)
            cleaned = torch.cat([out_real, out_imag], dim=2) + parts + residual
            expanded = _power_law(cleaned, 1.0 / _EXPONENT)[0] * level  # silence stays silence
            enhanced, after["tail"] = self.stft.synthesise(expanded, state["tail"])
        return enhanced.flatten(1), after | memory

    def _network(self, features: Tensor, state: State) -> tuple[Tensor, State]:
        """(N, B, F, 3 frames) -> (B, N, 2 frames + 2, F) in float32, and what recurrences remember.

        Time comes first in between, as recurrences want it.
        """
        bins = self.stft.bins
        above = (self.fine + 1) * _STRIDE - _BELOW - bins
        padded = F.pad(features, (0, 0, _BELOW, above))
        strips = padded.reshape(*features.shape[:2], self.fine + 1, -1)  # of _STRIDE bins each
        embedded = F.silu(self.embed(torch.cat([strips[:, :, :-1], strips[:, :, 1:]], dim=-1)))
        hidden = self.widen(self.down(embedded))
        memory: State = {}
        for index, block in enumerate(self.blocks):
            names = f"hidden{index}", f"cell{index}"
            hidden, after = block(hidden, *(state[name] for name in names))
            memory |= zip(names, after, strict=True)
        hidden = self.join(torch.cat([self.up(self.narrow(hidden)), embedded], dim=-1))
        hidden = self.norm(self.decoder(hidden))
        with torch.autocast(features.device.type, enabled=False):
            lower, upper = self.head(hidden.to(features.dtype)).chunk(2, dim=-1)
            strips = F.pad(lower, (0, 0, 0, 1)) + F.pad(upper, (0, 0, 1, 0))
            out = strips.reshape(*features.shape[:2], (self.fine + 1) * _STRIDE, -1)
            return out[:, :, _BELOW : _BELOW + bins].permute(1, 0, 3, 2), memory


def _power_law(parts: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
    """Bins (B, N, 2, F) with their magnitudes to a power, and these magnitudes (B, N, 1, F)."""
    # Not a sum: the ONNX exporter takes adding 1e-10 for adding nothing, and silence becomes NaN
    squares = parts.square().sum(dim=2, keepdim=True).clamp_min(1e-10)
    return parts * squares ** ((exponent - 1) / 2), squares ** (exponent / 2)


class Neighbours(nn.Module):
    """Residual convolution over three bands, as one matrix product: (N, B, F, C) -> same."""

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
    """Bands as sums of others, weighted alike in all channels: (N, B, F, C) -> (N, B, bands, C)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        place = torch.linspace(0, 1, after)[:, None] - torch.linspace(0, 1, before)
        near = torch.exp(-0.5 * (place * min(before, after)).square())  # start with what lies near
        self.weight = nn.Parameter(near / near.sum(dim=1, keepdim=True))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.matmul(self.weight, hidden)


class Block(nn.Module):
    """Recurrence over time in each band, then mixing of a frame's: (N, B, bands, width) -> same."""

    def __init__(self, bands: int, width: int, heads: int):
        super().__init__()
        self.bands, self.width, self.heads = bands, width, heads
        self.time_norm, self.band_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.recurrence = nn.LSTM(width, width)
        self.value_and_gate = nn.Linear(width, 2 * width)
        self.mixing = nn.Parameter(torch.eye(bands) + torch.randn(heads, bands, bands) / bands)
        self.project = nn.Linear(width, width)

    def forward(
        self, hidden: Tensor, before: Tensor, cell: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """before, cell: (B, bands, width), what the recurrence remembers, as is what comes back."""
        memory = tuple(part.reshape(1, -1, self.width) for part in (before, cell))
        update, memory = self._over_time(self.time_norm(hidden).flatten(1, 2), memory)
        hidden = hidden + update.reshape(hidden.shape)
        value, gate = self.value_and_gate(self.band_norm(hidden)).chunk(2, dim=-1)
        value = value.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
        mixed = torch.matmul(self.mixing, value).transpose(-3, -2).flatten(-2)
        after = tuple(part.reshape(before.shape).to(before.dtype) for part in memory)
        return hidden + self.project(mixed * F.silu(gate)), after

    def _over_time(
        self, frames: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(N, B bands, width) -> same; memory: (1, B bands, width) twice."""
        kind = frames.device.type
        if kind != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
            return self.recurrence(frames, memory)
        # oneDNN has LSTMs in bf16 for AVX-512 alone: elsewhere they stay in float32
        with torch.autocast(kind, enabled=False):
            return self.recurrence(frames.to(memory[0].dtype), memory)
