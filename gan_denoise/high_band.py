"""The band above what a 16 kHz model hears: gains for eight bands, decided with the model's help.

The model's input is the recording at 16 kHz; what that misses is the recording minus itself, taken
down to 16 kHz and up again. A small recurrent network looks, every 16 ms, at the energies of the
bands above 8 kHz, at those below before and after the model, and so at what the model took for
noise. Each band above gets a gain from 0 to 1, which moves in a straight line to its next value.
The sum of the bands at a gain of 1 is the band itself, without a seam.
recipes/make_high_band.py trains the network.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from gan_denoise.errors import InputError
from gan_denoise.signal.resampling import Resampler

RATE = 16000  # Hz, of the models that it stands above
HOP = 256  # samples at RATE
# Edges of the bands in Hz; the last one holds everything above
ABOVE_HZ = (8000, 9000, 10000, 11500, 13000, 15000, 17500, 20000, 192000)
BELOW_HZ = (100, 500, 1000, 2000, 4000, 5500, 7000, 8000)
BANDS = len(ABOVE_HZ) - 1
FEATURES = 2 * BANDS + 3 * (len(BELOW_HZ) - 1) + 1
_REACH_S = 0.001  # of a band's filter, each side
LEAD_S = 0.002  # by which the energies above are taken earlier: resamplers make them late
_FALL = 0.0016  # of the level, in powers of ten for each hop: 1 dB a second
_HOPS_AT_ONCE = 64  # for memory: a file's model gives eight seconds at once
_FAINTEST = -12.0  # power of ten: -120 dB of full scale


class Powers(NamedTuple):
    """Mean squares of hops in bands, as float64.

    above: (hops + 1, BANDS), below: (hops + 1, bands), before the model; kept: (hops, bands), after
    it. The last hop of the first two is a look ahead.
    """

    above: np.ndarray
    below: np.ndarray
    kept: np.ndarray


def band_powers(hops: np.ndarray, sample_rate: int, edges_hz: tuple[int, ...]) -> np.ndarray:
    """Hops (hops, samples, channels) -> mean squares (hops, bands), the mean of the channels."""
    window, inside = _spectral_bands(hops.shape[1], sample_rate, edges_hz)
    spectrum = np.fft.rfft(hops * window, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return (power[:, :, 0] if power.shape[2] == 1 else power.mean(axis=2)) @ inside


@functools.cache
def _spectral_bands(
    size: int, sample_rate: int, edges_hz: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """A window (size, 1), and what makes bands (bins, bands) of the power of its spectrum."""
    window = np.hanning(size + 2)[1:-1, None]
    hz = np.arange(size // 2 + 1) * sample_rate / size
    band = np.searchsorted(edges_hz, hz, side="right") - 1
    inside = band[:, None] == np.arange(len(edges_hz) - 1)
    return window, inside * (2.0 / (size * float(np.sum(window**2))))


def features(powers: Powers, strength: float, level: float) -> tuple[np.ndarray, float]:
    """What the network sees: (hops, FEATURES) float32, and the level for the next hops.

    level: powers of ten of the loudest hop below 8 kHz so far, which falls slowly; -inf at first.
    Energies are relative to it, so a gain on the input changes nothing.
    """
    logs = Powers(*(np.log10(power + 10.0**_FAINTEST) for power in powers))
    loudness = np.log10(powers.below.sum(axis=1) + 10.0**_FAINTEST)
    levels = np.empty(len(powers.kept))
    for index in range(len(levels)):
        level = max(level - _FALL, loudness[index])
        levels[index] = level
    above, below, kept = (0.5 * (power[: len(levels)] - levels[:, None]) for power in logs)
    next_above, next_below = (0.5 * (power[1:] - levels[:, None]) for power in logs[:2])
    told = np.full((len(levels), 1), strength)
    columns = [above, next_above, below, next_below, kept, told]
    return np.concatenate(columns, axis=1).clip(-4.0, 2.0).astype(np.float32), level


class Network:
    """Features to gains, hop by hop: a layer, a recurrence (GRU) and a layer.

    weights: as torch names them: enter, recur (nn.GRU) and leave.
    """

    def __init__(self, weights: dict[str, np.ndarray]):
        self._weights = weights
        self.width = weights["recur.weight_hh_l0"].shape[1]

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read its weights. Raises InputError."""
        try:
            weights = safetensors.numpy.load_file(path)
            network = cls(weights)
            network(np.zeros((1, FEATURES), dtype=np.float32), network.start())
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise InputError(
                path, f"holds no network of the high band ({error})", "install gan_denoise again"
            ) from error
        return network

    def start(self) -> np.ndarray:
        """The state before the first hop."""
        return np.zeros(self.width, dtype=np.float32)

    def __call__(self, seen: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(hops, FEATURES) -> gains (hops, BANDS) from 0 to 1, and the next state."""
        weights = self._weights
        hidden = seen @ weights["enter.weight"].T + weights["enter.bias"]
        hidden = hidden * _sigmoid(hidden)
        inputs = hidden @ weights["recur.weight_ih_l0"].T + weights["recur.bias_ih_l0"]
        recurrent, bias = weights["recur.weight_hh_l0"], weights["recur.bias_hh_l0"]
        states = np.empty((len(seen), self.width), dtype=np.float32)
        for index, now in enumerate(inputs):
            before = recurrent @ state + bias
            gates = _sigmoid(now[: 2 * self.width] + before[: 2 * self.width])
            reset, update = gates[: self.width], gates[self.width :]
            new = np.tanh(now[2 * self.width :] + reset * before[2 * self.width :])
            state = states[index] = new + update * (state - new)
        return _sigmoid(states @ weights["leave.weight"].T + weights["leave.bias"]), state


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * values)


@functools.cache
def band_filters(sample_rate: int) -> np.ndarray:
    """Linear-phase filters (BANDS, taps), taps odd, whose sum passes everything unchanged."""
    reach = round(_REACH_S * sample_rate)
    impulse = np.zeros(2 * reach + 1)
    impulse[reach] = 1.0
    # What lies below each inner edge; an edge that the rate does not hold leaves the band empty
    up_to = [
        _low_pass(edge / sample_rate, reach) if edge < 0.49 * sample_rate else impulse
        for edge in ABOVE_HZ[1:-1]
    ]
    filters = np.diff([np.zeros_like(impulse), *up_to, impulse], axis=0)
    return filters.astype(np.float32)


def _low_pass(edge: float, reach: int) -> np.ndarray:
    """A windowed sinc (2 reach + 1,); edge: as a share of the sample rate.

    It is scipy.signal.firwin's, whose import takes 0.7 s and 50 MB of every process.
    """
    taps = np.sinc(2.0 * edge * np.arange(-reach, reach + 1)) * np.hamming(2 * reach + 1)
    return taps / taps.sum()


class HighBand:
    """Ends (signal/around.py) of a model at 16 kHz, with the band above it.

    sample_rate: Hz, above RATE. linked: whether all channels get the same gains, which their mean
    energies decide. quality: of the resamplers. strength: 0 to 1; it may be set between two pieces.
    """

    def __init__(
        self,
        network: Network,
        sample_rate: int,
        channels: int,
        *,
        strength: float,
        linked: bool,
        quality: str = "VHQ",
    ):
        resampler = functools.partial(Resampler, channels=channels, quality=quality)
        self._network = network
        self.strength: float | None = strength
        self._down = resampler(sample_rate, RATE)
        self._up, self._up_again = resampler(RATE, sample_rate), resampler(RATE, sample_rate)
        self._rate, self._channels = sample_rate, channels
        self._groups = [slice(None)] if linked else [slice(n, n + 1) for n in range(channels)]
        self._size = round(sample_rate * HOP / RATE)  # of a hop, but for a sample
        self._lead = round(sample_rate * LEAD_S)
        self._ramp = np.arange(self._size + 1, dtype=np.float32) / np.float32(self._size)
        self._filters = band_filters(sample_rate)
        self._start()

    def _start(self) -> None:
        tracks = [Track(self._channels) for _ in range(7)]
        self._input, self._heard, self._above, self._gained = tracks[:4]
        self._enhanced, self._below, self._kept = tracks[4:]
        self._hop = self._received = self._emitted = 0
        self._levels = [-math.inf] * len(self._groups)
        self._states = [self._network.start() for _ in self._groups]
        self._gains = np.ones((self._channels, BANDS), dtype=np.float32)

    def inward(self, samples: np.ndarray) -> np.ndarray:
        self._received += len(samples)
        self._input.add(samples)
        return self._down.push(samples)

    def outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray:
        self._take(below, kept, self._up_again.push(below), self._up.push(kept))
        ready = self._hop
        while self._is_complete(ready):
            ready += 1
        self._advance(ready)
        return self._finished(min(self._gained.end, self._enhanced.end, self._received))

    def last_inward(self) -> np.ndarray:
        return self._down.flush()

    def last_outward(self, below: np.ndarray, kept: np.ndarray) -> np.ndarray:
        heard = np.concatenate([self._up_again.push(below), self._up_again.flush()])
        enhanced = np.concatenate([self._up.push(kept), self._up.flush()])
        self._take(below, kept, heard, enhanced)
        ready = self._hop
        while self._hop_start(ready) < self._received:
            ready += 1
        self._advance(ready)
        rest = self._finished(self._received)
        self._start()
        return rest

    def _hop_start(self, hop: int) -> int:
        return round(hop * HOP * self._rate / RATE)

    def _take(
        self, below: np.ndarray, kept: np.ndarray, heard: np.ndarray, enhanced: np.ndarray
    ) -> None:
        """What has come of each signal, and so of the band above."""
        self._heard.add(heard)
        begin, end = self._above.end, min(self._input.end, self._heard.end)
        self._above.add(self._input.at(begin, end) - self._heard.at(begin, end))
        self._input.forget(end)
        self._heard.forget(end)
        self._enhanced.add(enhanced)
        self._below.add(below)
        self._kept.add(kept)

    def _is_complete(self, hop: int) -> bool:
        """Whether the gains of a hop can be decided, and the band above it be filtered."""
        above = self._hop_start(hop + 1) + max(self._size - self._lead, self._filters.shape[1] // 2)
        return (
            self._above.end >= above
            and self._below.end >= (hop + 2) * HOP
            and self._kept.end >= (hop + 1) * HOP
        )

    def _advance(self, ready: int) -> None:
        """Work on the hops before `ready`."""
        while self._hop < ready:
            self._gain(min(ready, self._hop + _HOPS_AT_ONCE))

    def _gain(self, ready: int) -> None:
        starts = [self._hop_start(hop) for hop in range(self._hop, ready + 1)]
        reach, lead = self._filters.shape[1] // 2, self._lead
        first = starts[0] - max(reach, lead)
        above = self._above.at(first, starts[-1] + max(reach, self._size - lead))
        places = np.subtract(starts, first)
        blocks = above[(places - lead)[:, None] + np.arange(self._size)]
        both = np.concatenate(
            [self._below.hops(self._hop, ready + 1), self._kept.hops(self._hop, ready)]
        )
        gains = np.empty((len(starts) - 1, self._channels, BANDS), dtype=np.float32)
        for index, group in enumerate(self._groups):
            decided = self._decide(index, blocks[:, :, group], both[:, :, group])
            gains[:, group] = decided[:, None]
        pieces = []
        for begin, end, after in zip(places[:-1], places[1:], gains, strict=True):
            pieces.append(self._filtered(above[begin - reach : end + reach], after))
            self._gains = after
        self._gained.add(np.concatenate(pieces))
        self._hop = ready
        self._above.forget(starts[-1] - max(reach, lead))
        self._below.forget(ready * HOP)
        self._kept.forget(ready * HOP)

    def _decide(self, index: int, above: np.ndarray, both: np.ndarray) -> np.ndarray:
        """Gains (hops, BANDS) of a group of channels.

        above: hops + 1 blocks above 8 kHz. both: as many below before the model, and then hops
        after it; each (blocks, samples, channels).
        """
        below = band_powers(both, RATE, BELOW_HZ)
        count = len(above)
        powers = Powers(band_powers(above, self._rate, ABOVE_HZ), below[:count], below[count:])
        assert self.strength is not None  # a model that takes none has no band above it
        seen, self._levels[index] = features(powers, self.strength, self._levels[index])
        gains, self._states[index] = self._network(seen, self._states[index])
        return gains

    def _filtered(self, wave: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """A hop with the reach of a filter each side -> the hop, gains moving to `gains`."""
        still, change = np.stack([self._gains, gains - self._gains]) @ self._filters
        ramp = self._ramp[: len(wave) - still.shape[1] + 1]
        out = np.empty((len(ramp), self._channels), dtype=np.float32)
        for index, channel in enumerate(np.ascontiguousarray(wave.T)):
            out[:, index] = np.convolve(channel, change[index], "valid")
            out[:, index] *= ramp
            out[:, index] += np.convolve(channel, still[index], "valid")
        return out

    def _finished(self, end: int) -> np.ndarray:
        """The output until `end`."""
        begin, self._emitted = self._emitted, max(self._emitted, end)
        out = self._enhanced.at(begin, self._emitted) + self._gained.at(begin, self._emitted)
        self._enhanced.forget(self._emitted)
        self._gained.forget(self._emitted)
        return out


class Track:
    """Samples (n, channels) that come piece by piece, by their place in the signal.

    end: the place after the last one. What lies outside is silence.
    """

    def __init__(self, channels: int):
        self._samples, self._first = np.zeros((0, channels), dtype=np.float32), 0

    @property
    def end(self) -> int:
        return self._first + len(self._samples)

    def add(self, samples: np.ndarray) -> None:
        self._samples = np.concatenate([self._samples, samples], dtype=np.float32)

    def at(self, begin: int, end: int) -> np.ndarray:
        """A copy of the samples from `begin` to before `end`."""
        before, after = max(0, self._first - begin), max(0, end - max(begin, self.end))
        inside = self._samples[max(0, begin - self._first) : max(0, end - self._first)]
        if before or after:  # for which a copy would be slow
            return np.pad(inside, [(before, after), (0, 0)])
        return inside.copy()

    def hops(self, first: int, end: int) -> np.ndarray:
        """(hops, HOP, channels)."""
        samples = self.at(first * HOP, end * HOP)
        return samples.reshape(end - first, HOP, samples.shape[1])

    def forget(self, place: int) -> None:
        """What lies before `place`, which is asked for no more."""
        drop = max(0, min(place, self.end) - self._first)
        self._samples, self._first = self._samples[drop:].copy(), self._first + drop
