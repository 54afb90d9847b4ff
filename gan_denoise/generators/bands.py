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

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gan_denoise import contract
from gan_denoise.contract import State
from gan_denoise.spectral import loud_level, recent_level, start_at_the_identity
from gan_denoise.stft import StreamingSTFT, successive

_EXPONENT = 0.3  # of the compression
_STRIDE = 4  # bins from one fine band to the next, each of which sees twice as many
_BELOW = 2  # bins of silence below the first
_RUMBLE_HZ = 120.0  # below which nothing counts for the level of speech
_HIGH_PASS_ORDER = 8  # of the mask's own end: the power of its amplitude's slope
_ENTRANCE_TAPS = 512  # of the filter before everything: at 60 Hz, -74 dB is left after them
_DIAL = 16  # units between the strength and what it adds to every band
_FRAMES = 3  # that the network sees and the mask weighs: this one and those before


class Generator(contract.StreamingGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    Output sample t depends on no input beyond t + `latency`, and on all that was before.

    sample_rate: Hz. channels: of the fine bands (every fourth bin). bands: coarse ones, on which
    the blocks work, each with `width` channels. blocks: of recurrence and mixing. deeper: more of
    them, which change nothing before they have learnt, so that a trained model can grow (Net2Net's
    identity layers, Chen et al. 2016). heads: ways of mixing in a block; must divide width.
    window_ms, hop_ms: of the STFT; the latency is the window. level_ms: past over which the level
    is taken; loud: by frames as loud as speech, above rumble, instead of all. high_pass_hz: where
    its output ends; 0: nowhere. entrance_hz: the edge of a high-pass filter before everything,
    since rumble that is louder than speech fills the bins beside its own, where no mask parts them;
    0: none. strength: whether it takes one. both_ways: recurrences backwards in time too, from the
    end of what a step is given (generators/ahead.py makes use of that, and nothing that streams).
    """

    # Parts that change nothing before they have learnt
    neutral = "dial", "backwards", "merge", "deeper"
    drawn = "dial", "backwards", "deeper"  # of these, those whose first weights mean nothing
    unit: Tensor
    passed: Tensor | None

    def __init__(
        self,
        sample_rate: int = 16000,
        channels: int = 32,
        bands: int = 24,
        width: int = 64,
        blocks: int = 2,
        deeper: int = 0,
        heads: int = 4,
        window_ms: float = 32.0,
        hop_ms: float = 16.0,
        level_ms: float = 1024.0,
        loud: bool = False,
        high_pass_hz: float = 0.0,
        entrance_hz: float = 0.0,
        strength: bool = False,
        both_ways: bool = False,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"heads {heads} does not divide width {width}")
        hop_length = round(sample_rate * hop_ms / 1000)
        self.stft = StreamingSTFT(2 * round(sample_rate * window_ms / 2000), hop_length)
        self.level_frames = max(1, round(level_ms / hop_ms))
        self.fine = -(-(self.stft.bins + _BELOW) // _STRIDE)
        # The first and last layer, as Neighbours', are convolutions whose kernels lie as those of a
        # linear layer over what they reach: models are saved so
        self.embed = nn.Linear(2 * _STRIDE * 3 * _FRAMES, channels)
        self.down = BandMap(self.fine, bands)
        self.widen = nn.Linear(channels, width)
        self.coarse, self.takes_strength = (bands, width), strength
        if strength:
            last = nn.Linear(_DIAL, width)
            self.dial = nn.Sequential(nn.Linear(1, _DIAL), nn.SiLU(), last)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.blocks = nn.ModuleList(Block(bands, width, heads, both_ways) for _ in range(blocks))
        self.deeper = nn.ModuleList(
            Block(bands, width, heads, both_ways, neutral=True) for _ in range(deeper)
        )
        self.narrow = nn.Linear(width, channels)
        self.up = BandMap(bands, self.fine)
        self.join = nn.Linear(2 * channels, channels)
        self.decoder = Neighbours(channels)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 2 * _STRIDE * 2 * (_FRAMES + 1))
        start_at_the_identity(self.head)
        unit = torch.zeros(2 * _STRIDE, 2 * _FRAMES + 2)
        unit[:_STRIDE, _FRAMES - 1] = 1.0  # of this frame: half of a kernel reaches every bin once
        self.register_buffer("unit", unit, persistent=False)
        bin_hz = sample_rate / self.stft.n_fft
        self.lowest = math.ceil(_RUMBLE_HZ / bin_hz) if loud else None
        hz = bin_hz * torch.arange(1, self.stft.bins, dtype=torch.float64)
        passed = F.pad(1.0 / (1.0 + (high_pass_hz / hz) ** _HIGH_PASS_ORDER), (1, 0))
        self.register_buffer("passed", passed.float() if high_pass_hz else None, persistent=False)
        self.entrance = None
        if entrance_hz:
            self.entrance = Entrance(entrance_hz / sample_rate, hop_length, self.stft.n_fft)
        self.hop_length, self.latency = hop_length, self.stft.n_fft

    def initial_state(self, batch: int = 1) -> State:
        like, stft = self.stft.windows, self.stft
        recurrences = len(self.blocks) + len(self.deeper)
        told = {"strength": like.new_full((batch, 1), contract.BALANCED)}
        optional = told if self.takes_strength else {}
        if self.entrance is not None:
            reach = self.entrance.reach
            optional |= {"before": like.new_zeros(batch, reach, self.hop_length)}
        return optional | {
            "past": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "tail": like.new_zeros(batch, stft.overlap, stft.hop_length),
            "heard": like.new_zeros(batch, 2, self.level_frames - 1, 1),
            "seen": like.new_zeros(batch, 3, _FRAMES - 1, stft.bins),
            "memory": like.new_zeros(batch, 2 * recurrences, *self.coarse),
        }

    def step(self, noisy: Tensor, state: State) -> tuple[Tensor, State]:
        # Eight bits of mantissa would be heard: bf16 is for the network alone
        with torch.autocast(noisy.device.type, enabled=False):
            after: State = {}
            hops = noisy.unflatten(-1, (-1, self.hop_length))
            if self.entrance is not None:
                hops, after["before"] = self.entrance(hops, state["before"])
            spectrum, past = self.stft.analyse(hops, state["past"])
            if self.entrance is not None:
                spectrum = self.entrance.turned_back(spectrum)
            if self.lowest is None:
                level, heard = recent_level(spectrum, state["heard"])
            else:
                level, heard = loud_level(spectrum, state["heard"], self.lowest)
            parts, magnitude = _power_law(spectrum / level.clamp_min(1e-7), _EXPONENT)
            seen = torch.cat([state["seen"], torch.cat([parts, magnitude], dim=1)], dim=2)
        out, memory = self._network(seen, state["memory"], state.get("strength"))
        with torch.autocast(noisy.device.type, enabled=False):
            recent = torch.cat(successive(seen[:, :2], _FRAMES, dim=2), dim=1)
            mask, residual = out.split([4 * _FRAMES, 2], dim=1)
            cleaned = (mask.unflatten(1, (2, -1)) * recent[:, None]).sum(dim=2) + residual
            expanded = _power_law(cleaned, 1.0 / _EXPONENT)[0] * level  # silence stays silence
            if self.passed is not None:
                expanded = expanded * self.passed
            enhanced, tail = self.stft.synthesise(expanded, state["tail"])
        seen = seen[:, :, 1 - _FRAMES :]
        after |= {"past": past, "tail": tail, "heard": heard, "seen": seen, "memory": memory}
        if self.takes_strength:
            after["strength"] = state["strength"]
        return enhanced.flatten(1), after

    def _network(
        self, seen: Tensor, memory: Tensor, strength: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(B, 3, N + 2, F) -> (B, 4 frames + 2, N, F) in float32, and what recurrences remember.

        In between channels come last; within the blocks time comes first, as recurrences want it.
        """
        above = (self.fine + 1) * _STRIDE - _BELOW - self.stft.bins
        kernel = self.embed.weight.view(-1, 2 * _STRIDE, _FRAMES, 3).permute(0, 3, 2, 1)
        padded = F.pad(seen, (_BELOW, above))
        embedded = F.conv2d(padded, kernel, self.embed.bias, stride=(1, _STRIDE))
        embedded = F.silu(embedded.permute(0, 2, 3, 1))  # (B, N, fine, channels)
        hidden = self.widen(self.down(embedded))
        if strength is not None:
            hidden = hidden + self.dial(strength)[:, None, None]
        hidden = hidden.transpose(0, 1).flatten(1, 2)
        memories = memory.transpose(0, 1).flatten(1, 2).split(1)
        after: list[Tensor] = []
        for index, block in enumerate([*self.blocks, *self.deeper]):
            hidden, own = block(hidden, memories[2 * index : 2 * index + 2])
            after += own
        hidden = hidden.unflatten(1, (-1, self.coarse[0])).transpose(0, 1)
        hidden = self.norm(self.decoder(self._join(hidden, embedded))).permute(0, 3, 1, 2)
        with torch.autocast(seen.device.type, enabled=False):
            weight = self.head.weight.unflatten(0, self.unit.shape)
            bias = (self.head.bias.view_as(self.unit) + self.unit)[..., None]
            out = self._spread(hidden.to(seen.dtype), weight)
            out = out + self._spread(seen.new_ones(1, 1, 1, self.fine), bias)
        kept = torch.cat(after).reshape(len(after), -1, *self.coarse).transpose(0, 1)
        return out, kept.to(memory.dtype)

    def _join(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """`join` of up(narrow(hidden)), from coarse bands (B, N, bands, width), and embedded (B, N,
        fine, channels): (B, N, fine, channels).

        Channels and bands mix in any order. So `narrow` and the first half of `join`, which models
        are saved with, can be one matrix before `up`, where there are fewer bands to multiply.
        """
        weight, channels = self.join.weight, embedded.shape[-1]
        both = weight[:, :channels] @ self.narrow.weight
        bias = weight[:, :channels] @ self.narrow.bias * self.up.weight.sum(dim=1, keepdim=True)
        joined = self.up(F.linear(hidden, both)) + F.linear(embedded, weight[:, channels:])
        return joined + (bias + self.join.bias)

    def _spread(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Fine bands (B, C, N, fine) -> bins (B, 4 frames + 2, N, F), by a transposed convolution.

        weight: (bins of a kernel, 2 frames + 2, C), complex factors and a complex residual. The
        factors come out as what a sum of products with real and imaginary parts of these frames
        takes to be the real part of the complex products' sum, and then the imaginary part.
        """
        real, imaginary = weight[:, :_FRAMES], weight[:, _FRAMES : 2 * _FRAMES]
        rows = [
            torch.stack(pair, dim=2).flatten(1, 2)
            for pair in ((real, -imaginary), (imaginary, real))
        ]
        kernel = torch.cat([*rows, weight[:, 2 * _FRAMES :]], dim=1).permute(2, 1, 0)[:, :, None]
        spread = F.conv_transpose2d(hidden, kernel, stride=(1, _STRIDE), padding=(0, _BELOW))
        return spread[..., : self.stft.bins]


def _power_law(parts: Tensor, exponent: float) -> tuple[Tensor, Tensor]:
    """Bins (B, 2, N, F) with their magnitudes to a power, and these magnitudes (B, 1, N, F)."""
    # Not a sum: the ONNX exporter takes adding 1e-10 for adding nothing, and silence becomes NaN
    squares = parts.square().sum(dim=1, keepdim=True).clamp_min(1e-10)
    factor = squares ** ((exponent - 1) / 2)
    return parts * factor, squares.sqrt() * factor


class Entrance(nn.Module):
    """A causal Butterworth high-pass of order 2 on hops, before the STFT, and the turning back of
    the phase that it gives the spectrum: its delay, at most 5 ms, is little beside a window.

    edge: as a share of the sample rate. reach: of the filter, in hops before.
    """

    filtering: Tensor
    turned: Tensor

    def __init__(self, edge: float, hop_length: int, n_fft: int):
        super().__init__()
        self.reach = -(-(_ENTRANCE_TAPS - 1) // hop_length)
        taps = torch.fft.irfft(_butterworth(edge, 32 * _ENTRANCE_TAPS))[:_ENTRANCE_TAPS]
        place = torch.arange(-self.reach * hop_length, hop_length)
        delay = place[-hop_length:] - place[:, None]
        inside = (delay >= 0) & (delay < _ENTRANCE_TAPS)
        filtering = torch.where(inside, taps[delay.clamp(0, _ENTRANCE_TAPS - 1)], 0.0)
        response = _butterworth(edge, n_fft)
        turned = torch.view_as_real(response / response.abs().clamp_min(1e-12)).T[None, :, None]
        self.register_buffer("filtering", filtering.float(), persistent=False)
        self.register_buffer("turned", turned.float(), persistent=False)

    def forward(self, hops: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, hop) and the `reach` hops before -> the same, filtered, and those before the
        next.
        """
        hops = torch.cat([before, hops], dim=1)
        # A product of matrices: a convolution with so many taps takes ten times as long
        filtered = torch.cat(successive(hops, self.reach + 1, dim=1), dim=-1) @ self.filtering
        return filtered, hops[:, -self.reach :]

    def turned_back(self, spectrum: Tensor) -> Tensor:
        """Bins (B, 2, N, F) -> the same, without the filter's phase."""
        (real, imaginary), (cosine, sine) = spectrum.unbind(dim=1), self.turned.unbind(dim=1)
        parts = real * cosine + imaginary * sine, imaginary * cosine - real * sine
        return torch.stack(parts, dim=1)


def _butterworth(edge: float, n_fft: int) -> Tensor:
    """Response by the bilinear transform, at the bins of an n_fft: (n_fft / 2 + 1,) complex128."""
    delay = torch.exp(-2j * math.pi * torch.arange(n_fft // 2 + 1, dtype=torch.float64) / n_fft)
    warped = math.tan(math.pi * edge)
    passed = (1.0 - delay).square()
    stopped = warped * (1.0 + delay)
    return passed / (passed + math.sqrt(2.0) * stopped * (1.0 - delay) + stopped.square())


class Neighbours(nn.Module):
    """Residual convolution over three bands: (B, N, F, C) -> same."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gather = nn.Linear(3 * channels, channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, hidden: Tensor) -> Tensor:
        channels = hidden.shape[-1]
        kernel = self.gather.weight.view(channels, 1, 3, channels).permute(0, 3, 1, 2)
        normed = self.norm(hidden).permute(0, 3, 1, 2)
        near = F.conv2d(normed, kernel, self.gather.bias, padding=(0, 1))
        return hidden + self.project(F.silu(near.permute(0, 2, 3, 1)))


class BandMap(nn.Module):
    """Bands as sums of others, weighted alike in all channels: (B, N, F, C) -> (B, N, bands, C)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        place = torch.linspace(0, 1, after)[:, None] - torch.linspace(0, 1, before)
        near = torch.exp(-0.5 * (place * min(before, after)).square())  # start with what lies near
        self.weight = nn.Parameter(near / near.sum(dim=1, keepdim=True))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.matmul(self.weight, hidden)


class Block(nn.Module):
    """Recurrence over time in each band, then mixing of a frame's: (N, B bands, width) -> same.

    neutral: whether it gives back what it gets, before it has learnt.
    """

    def __init__(self, bands: int, width: int, heads: int, both_ways: bool, neutral: bool = False):
        super().__init__()
        self.bands, self.width, self.heads = bands, width, heads
        self.time_norm, self.band_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.recurrence = nn.LSTM(width, width)
        self.backwards = nn.LSTM(width, width) if both_ways else None
        ways = 2 if both_ways else 1
        self.merge = nn.Linear(ways * width, width) if both_ways or neutral else None
        self.value_and_gate = nn.Linear(width, 2 * width)
        self.mixing = nn.Parameter(torch.eye(bands) + torch.randn(heads, bands, bands) / bands)
        self.project = nn.Linear(width, width)
        with torch.no_grad():
            if self.merge is not None:  # at first, what was is all that counts
                self.merge.weight.copy_(torch.eye(width, ways * width) * (not neutral))
                self.merge.bias.zero_()
            if neutral:
                self.project.weight.zero_()
                self.project.bias.zero_()

    def forward(
        self, hidden: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """memory, and what comes back beside: (1, B bands, width) twice, of the recurrence."""
        normed = self.time_norm(hidden)
        update, memory = self._over_time(self.recurrence, normed, memory)
        if self.backwards is not None:
            # As the memory before this, whose shape the exporter gets wrong
            silence = normed.new_zeros(1, normed.shape[1], self.width)
            behind, _ = self._over_time(self.backwards, normed.flip(0), (silence, silence))
            update = torch.cat([update, behind.flip(0)], dim=-1)
        if self.merge is not None:
            update = self.merge(update)
        hidden = hidden + update
        value, gate = self.value_and_gate(self.band_norm(hidden)).chunk(2, dim=-1)
        value = value.reshape(hidden.shape[0], -1, self.bands, self.heads, self.width // self.heads)
        mixed = torch.matmul(self.mixing, value.transpose(-3, -2)).transpose(-3, -2)
        return hidden + self.project(mixed.reshape(hidden.shape) * F.silu(gate)), memory

    def _over_time(
        self, recurrence: nn.LSTM, frames: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(N, B bands, width) -> same; memory: (1, B bands, width) twice."""
        kind = frames.device.type
        if kind != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
            return recurrence(frames, memory)
        # oneDNN has LSTMs in bf16 for AVX-512 alone: elsewhere they stay in float32
        with torch.autocast(kind, enabled=False):
            return recurrence(frames.to(memory[0].dtype), memory)
