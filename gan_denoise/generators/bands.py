"""A small causal network that shares its weights over frequency, so all bands learn together.

A convolution over frequency makes bands from the STFT's bins; in each block a recurrence runs over
time, the same one in every band, and then the bands of a frame exchange their contents by learnt
mixing, gated by the content of each. This is the plan of dual-path networks (DPCRN, Le et al. 2021;
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
from gan_denoise.signal.spectral import loud_level, recent_level, start_at_the_identity
from gan_denoise.signal.stft import StreamingSTFT, successive

_EXPONENT = 0.3  # of the compression
_STRIDE = 4  # bins from one fine band to the next, each of which sees twice as many
_BELOW = 2  # bins of silence below the first bin
_RUMBLE_HZ = 120.0  # bins below it do not count for the level of speech
_HIGH_PASS_ORDER = 8  # amplitudes below high_pass_hz fall with this power of the frequency
_ENTRANCE_TAPS = 512  # of the filter before the STFT: at 60 Hz the rest is at -74 dB
_DIAL = 16  # units between the strength and its addition to every band
_FRAMES = 3  # that the network sees and the mask weighs: the present one and those before


class Generator(contract.StreamingGenerator):
    """(B, 1, T) noisy -> (B, 1, T) enhanced.

    Output sample t depends on no input beyond t + `latency`, and on all earlier input.

    sample_rate: Hz. channels: of the fine bands (every fourth bin). bands: coarse ones, on which
    the blocks work, each with `width` channels. blocks: of recurrence and mixing. deeper: further
    blocks that change nothing at first, so that a trained model can grow (Net2Net's identity
    layers, Chen et al. 2016). heads: ways of mixing in a block; must divide width. window_ms,
    hop_ms: of the STFT; the latency is the window. level_ms: past over which the level is taken.
    loud: whether the level is that of frames as loud as speech, above rumble, instead of that of
    all frames. high_pass_hz: lower edge of the output; 0: none. entrance_hz: edge of a high-pass
    filter before the STFT, 0: none. Rumble that is louder than speech leaks into neighbouring bins,
    where no mask can separate the two. strength: whether `forward` takes one. both_ways: whether
    recurrences also run backwards, from the end of the signal that a step gets (only
    generators/ahead.py uses it, since a stream has no end).
    """

    # Parts that change nothing at first, and those of them whose first weights are random
    neutral = "dial", "backwards", "merge", "deeper"
    drawn = "dial", "backwards", "deeper"
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
        # The first and the last layer are convolutions, as in Neighbours; their kernels have the
        # layout of a linear layer, as in saved models
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
        # The present frame's factor; half of a kernel reaches every bin exactly once
        unit[:_STRIDE, _FRAMES - 1] = 1.0
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
        # Only the network runs in bf16: in a signal eight bits of mantissa would be audible
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
        """(B, 3, N + 2, F) -> (B, 4 frames + 2, N, F) in float32, and the recurrences' new memory.

        Between input and output channels come last; within the blocks time comes first, as LSTMs
        need it.
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
            hidden, states = block(hidden, memories[2 * index : 2 * index + 2])
            after += states
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
        """`join` of up(narrow(hidden)) and embedded: (B, N, fine, channels).

        hidden: coarse bands (B, N, bands, width). embedded: (B, N, fine, channels). The linear maps
        over channels and over bands commute. So `narrow` and the first half of `join`, which are
        separate in saved models, become one matrix before `up`, where there are fewer bands to
        multiply.
        """
        weight, channels = self.join.weight, embedded.shape[-1]
        both = weight[:, :channels] @ self.narrow.weight
        bias = weight[:, :channels] @ self.narrow.bias * self.up.weight.sum(dim=1, keepdim=True)
        joined = self.up(F.linear(hidden, both)) + F.linear(embedded, weight[:, channels:])
        return joined + (bias + self.join.bias)

    def _spread(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """Fine bands (B, C, N, fine) -> bins (B, 4 frames + 2, N, F), by a transposed convolution.

        weight: (bins of a kernel, 2 frames + 2, C), complex factors and a complex residual. The
        output holds the factors twice, as real weights of the frames' real and imaginary parts:
        first those that add up to the real part of the complex products, then those for the
        imaginary part.
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
    # A clamp, since the ONNX exporter drops an addition of 1e-10, and silence would become NaN
    squares = parts.square().sum(dim=1, keepdim=True).clamp_min(1e-10)
    factor = squares ** ((exponent - 1) / 2)
    return parts * factor, squares.sqrt() * factor


class Entrance(nn.Module):
    """A causal Butterworth high-pass of order 2 on hops, before the STFT.

    `turned_back` undoes its phase in the spectrum: the filter's delay, at most 5 ms, is short
    beside a window. edge: as a share of the sample rate. reach: length of the filter, in hops
    before the present one.
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
        """Hops (B, N, hop) and the `reach` before them -> filtered hops, and the last `reach`."""
        hops = torch.cat([before, hops], dim=1)
        # A matrix product, since a convolution with so many taps takes ten times as long
        filtered = torch.cat(successive(hops, self.reach + 1, dim=1), dim=-1) @ self.filtering
        return filtered, hops[:, -self.reach :]

    def turned_back(self, spectrum: Tensor) -> Tensor:
        """Bins (B, 2, N, F) -> the same, without the filter's phase."""
        (real, imaginary), (cosine, sine) = spectrum.unbind(dim=1), self.turned.unbind(dim=1)
        parts = real * cosine + imaginary * sine, imaginary * cosine - real * sine
        return torch.stack(parts, dim=1)


def _butterworth(edge: float, n_fft: int) -> Tensor:
    """Frequency response, by the bilinear transform, at n_fft / 2 + 1 bins: complex128."""
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
    """Bands as weighted sums of bands, alike in all channels: (B, N, F, C) -> (B, N, bands, C)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        place = torch.linspace(0, 1, after)[:, None] - torch.linspace(0, 1, before)
        near = torch.exp(-0.5 * (place * min(before, after)).square())  # at first, nearby bands
        self.weight = nn.Parameter(near / near.sum(dim=1, keepdim=True))

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.matmul(self.weight, hidden)


class Block(nn.Module):
    """Recurrence over time in each band, then mixing of bands: (N, B bands, width) -> same.

    neutral: whether the block returns its input unchanged before training.
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
            if self.merge is not None:  # at first the recurrence backwards does not count
                self.merge.weight.copy_(torch.eye(width, ways * width) * (not neutral))
                self.merge.bias.zero_()
            if neutral:
                self.project.weight.zero_()
                self.project.bias.zero_()

    def forward(
        self, hidden: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """hidden, and the recurrence's memory -> the same shapes.

        memory: hidden and cell state, (1, B bands, width) each.
        """
        normed = self.time_norm(hidden)
        update, memory = self._over_time(self.recurrence, normed, memory)
        if self.backwards is not None:
            # A zero state of its own, since the exporter gets the shape of the default one wrong
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
        """Run an LSTM: (N, B bands, width) -> same; memory: (1, B bands, width) twice."""
        kind = frames.device.type
        if kind != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
            return recurrence(frames, memory)
        # oneDNN has LSTMs in bf16 only for AVX-512; elsewhere they stay in float32
        with torch.autocast(kind, enabled=False):
            return recurrence(frames.to(memory[0].dtype), memory)
