#!/usr/bin/env python3
"""Train the network above 8 kHz that the packaged models share (gan_denoise/high_band.py).

    python recipes/make_high_band.py SPEECH NOISE OUT

SPEECH: a folder of 48 kHz speech, a folder for each speaker. NOISE: a folder of 48 kHz recordings,
named KIND_*. The speakers and kinds of DEV and TEST are left out. Mixtures are made, the packaged
models enhance what lies below 8 kHz, and the network learns from the energies of hops. OUT gets
model.safetensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from gan_denoise import audio, high_band
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.high_band import (
    ABOVE_HZ,
    BANDS,
    BELOW_HZ,
    FEATURES,
    HOP,
    LEAD_S,
    Powers,
    band_powers,
)
from gan_denoise.system import terminal
from gan_denoise.system.files import write_atomically
from gan_denoise.system.terminal import program, say

RATE = 48000
# Speakers of VCTK and kinds of noise that no training hears: by the first, settings are chosen
DEV = {"p226", "p244", "printer", "rain-on-tent", "street", "waves"}
TEST = {"p228", "p345", "p361", "airplane", "clapping", "fire", "keyboard", "train", "vacuum"}
SECONDS = 4
SEED = 0
WIDTH = 32  # units of the network's layers
BATCH, STEPS, WARM_UP, LEARNING_RATE = 32, 3000, 100, 4e-3
EXPONENT = 0.3  # of magnitudes, by which errors are judged
# How much worse it is to take speech than to leave noise, at a strength of 0 and of 1
GENTLE, STRONG = 24.0, 2.0


class Item(NamedTuple):
    """A mixture: what the network sees of it, and the energies it should leave.

    seen: (hops, FEATURES). above, clean: mean squares (hops, BANDS), relative to the level.
    """

    seen: np.ndarray
    above: np.ndarray
    clean: np.ndarray
    strength: float


class Mixtures:
    """Speech and noise at 48 kHz, and mixtures of them, each a function of its number."""

    def __init__(self, speech: Path, noise: Path):
        self._speech = _read(speech, lambda path: path.parent.name)
        self._noise = _read(noise, lambda path: path.name.split("_")[0])

    def mixture(self, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(T,) noisy and clean: both, speech alone, or noise alone."""
        length = SECONDS * RATE
        clean, noise = np.zeros(length), np.zeros(length)
        case = draw.random()
        if case > 0.15:
            clean = _placed(self._speech, draw, length, gap_s=0.6)
            clean = _shelved(clean, 4000.0, draw.uniform(-12.0, 6.0))
        if case < 0.15 or case > 0.25:
            for _ in range(draw.integers(1, 3)):
                noise = noise + self._one_noise(draw, length)
            level = np.sqrt(np.mean(clean[clean != 0.0] ** 2)) if clean.any() else 0.05
            snr_db = draw.uniform(-5.0, 40.0)
            noise = noise * (level * 10 ** (-snr_db / 20) / (np.sqrt(np.mean(noise**2)) + 1e-9))
        if draw.random() < 0.25:  # recordings that were narrower
            edge = draw.uniform(8500.0, 20000.0)
            clean, noise = _low_passed(clean, edge), _low_passed(noise, edge)
        return clean + noise, clean

    def _one_noise(self, draw: np.random.Generator, length: int) -> np.ndarray:
        if draw.random() < 0.35:  # hiss of any colour
            wave = _shelved(draw.standard_normal(length), 2000.0, draw.uniform(-25.0, 12.0))
        else:
            wave = _placed(self._noise, draw, length, gap_s=0.0)
            wave = _shelved(wave, 4000.0, draw.uniform(-10.0, 10.0))
        return draw.uniform(0.1, 1.0) * wave / (np.sqrt(np.mean(wave**2)) + 1e-9)


def _read(folder: Path, source: Callable[[Path], str]) -> list[np.ndarray]:
    """All recordings but those whose speaker or kind is held out."""
    paths = [path for path in audio.find(folder) if source(path) not in DEV | TEST]
    if not paths:
        raise InputError(folder, "no recordings in there", "name a folder of 48 kHz recordings")
    return [audio.read_mono(path, sample_rate=RATE)[0] for path in sorted(paths)]


def _placed(
    waves: Sequence[np.ndarray], draw: np.random.Generator, length: int, *, gap_s: float
) -> np.ndarray:
    """Recordings, one after the other, from a random place on."""
    pieces: list[np.ndarray] = []
    while sum(map(len, pieces)) < 2 * length:
        pieces.append(waves[int(draw.integers(len(waves)))])
        pieces.append(np.zeros(int(gap_s * draw.random() * RATE), dtype=np.float32))
    start = draw.integers(length)
    return np.concatenate(pieces)[start : start + length].astype(np.float64)


def _shelved(wave: np.ndarray, corner_hz: float, gain_db: float) -> np.ndarray:
    """With a gain above a corner, reached within two octaves."""
    hz = np.fft.rfftfreq(len(wave), 1.0 / RATE)
    octaves = np.log2(np.maximum(hz, 1.0) / corner_hz)
    gain = 10.0 ** (gain_db / 20.0 * np.clip(0.5 * octaves + 0.5, 0.0, 1.0))
    return np.fft.irfft(np.fft.rfft(wave) * gain, len(wave))


def _low_passed(wave: np.ndarray, edge_hz: float) -> np.ndarray:
    hz = np.fft.rfftfreq(len(wave), 1.0 / RATE)
    return np.fft.irfft(np.fft.rfft(wave) / (1.0 + (hz / edge_hz) ** 24), len(wave))


def above(wave: np.ndarray, below: np.ndarray) -> np.ndarray:
    """What a recording at 48 kHz has that `below`, itself at 16 kHz, lacks, LEAD_S later."""
    high = wave - audio.resample(below, high_band.RATE, RATE)[: len(wave)]
    return np.pad(high, (round(RATE * LEAD_S), 0))[: len(wave)]


def example(mixtures: Mixtures, models: Sequence[Denoiser], draw: np.random.Generator) -> Item:
    """One mixture, measured as HighBand measures a recording."""
    noisy, clean = mixtures.mixture(draw)
    strength = float(draw.choice([0.0, 0.5, 1.0, draw.random()]))
    below, clean_below = (audio.resample(wave, RATE, high_band.RATE) for wave in (noisy, clean))
    kept = models[int(draw.integers(len(models)))](below, high_band.RATE, strength=strength)
    size, hops = RATE * HOP // high_band.RATE, len(below) // HOP - 1
    high, clean_high = above(noisy, below), above(clean, clean_below)
    powers = Powers(
        band_powers(_hops(high, size, hops + 1), RATE, ABOVE_HZ),
        band_powers(_hops(below, HOP, hops + 1), high_band.RATE, BELOW_HZ),
        band_powers(_hops(kept, HOP, hops), high_band.RATE, BELOW_HZ),
    )
    seen, _ = high_band.features(powers, strength, -np.inf)
    speech = band_powers(_hops(clean_high, size, hops), RATE, ABOVE_HZ)
    loudest = powers.below.sum(axis=1).max() + 1e-9
    return Item(seen, powers.above[:-1] / loudest, speech / loudest, strength)


def _hops(wave: np.ndarray, size: int, count: int) -> np.ndarray:
    return wave[: count * size].reshape(count, size, 1)


class TrainableNetwork(nn.Module):
    """high_band.Network, to be trained: features (B, hops, FEATURES) -> gains (B, hops, BANDS)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(FEATURES, WIDTH)
        self.recur = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.leave = nn.Linear(WIDTH, BANDS)
        nn.init.constant_(self.leave.bias, 2.0)  # nearly open at first

    def forward(self, seen: Tensor) -> Tensor:
        hidden = torch.nn.functional.silu(self.enter(seen))
        return torch.sigmoid(self.leave(self.recur(hidden)[0]))


def loss(gains: Tensor, above: Tensor, clean: Tensor, strength: Tensor) -> Tensor:
    """The mean square of the errors of compressed magnitudes.

    gains: (B, hops, BANDS). above, clean: mean squares of the same shape. strength: (B,), which
    sets how much dearer a band is that became too quiet.
    """
    kept = (gains * (above + 1e-12).sqrt()) ** EXPONENT
    error = kept - (clean + 1e-12).sqrt() ** EXPONENT
    weight = GENTLE * (STRONG / GENTLE) ** strength[:, None, None]
    return torch.where(error < 0.0, weight * error.square(), error.square()).mean()


def train(items: Sequence[Item], draw: np.random.Generator) -> TrainableNetwork:
    torch.manual_seed(SEED)
    seen, above, clean = (
        torch.from_numpy(np.stack(parts).astype(np.float32))
        for parts in zip(*(item[:3] for item in items), strict=True)
    )
    strength = torch.tensor([item.strength for item in items])
    network = TrainableNetwork()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=WARM_UP / STEPS
    )
    total = 0.0
    for step in range(1, STEPS + 1):
        index = torch.from_numpy(draw.integers(len(items), size=BATCH))
        value = loss(network(seen[index]), above[index], clean[index], strength[index])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += float(value.detach())
        if step % 500 == 0:
            say(f"step {step}/{STEPS}: loss {total / 500:.5f}")
            total = 0.0
    return network


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    for name, what in (("speech", "48 kHz speech"), ("noise", "48 kHz noise"), ("out", "output")):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=f"folder of {what}")
    parser.add_argument(
        "--mixtures", type=int, default=3000, metavar="N", help="number of mixtures (default 3000)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mixtures = Mixtures(arguments.speech, arguments.noise)
    models = [Denoiser.load("live"), Denoiser.load("files")]
    count = arguments.mixtures
    numbers = terminal.progress(range(count), total=count, label="examples", unit="mixtures")
    items = [example(mixtures, models, np.random.default_rng([SEED, n])) for n in numbers]
    network = train(items, np.random.default_rng(SEED))
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    write_atomically(arguments.out / "model.safetensors", safetensors.torch.save(weights))
    say(
        f"{arguments.out / 'model.safetensors'}: {sum(map(Tensor.numel, weights.values()))} weights"
    )


if __name__ == "__main__":
    main()
