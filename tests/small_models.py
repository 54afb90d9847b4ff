"""Generators in small with random weights, and model directories of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import speech_like
from gan_denoise import (
    checkpoint,
    generators,
)
from gan_denoise.contract import Generator
from gan_denoise.enhance import Denoiser
from gan_denoise.generators import causal, convnext

SMALL: dict[str, dict[str, Any]] = {
    "bands": {
        "name": "bands",
        "channels": 8,
        "bands": 6,
        "width": 8,
        "blocks": 1,
        "heads": 2,
        "hop_ms": 12.0,  # no part of its window
        "level_ms": 64.0,
    },
    "ahead": {
        "name": "ahead",
        "channels": 8,
        "bands": 6,
        "width": 8,
        "blocks": 1,
        "heads": 2,
        "hop_ms": 12.0,
        "level_ms": 64.0,
        "window_s": 0.4,
        "overlap_s": 0.1,
    },
    "causal": {"name": "causal", "width": 16, "dilations": [1, 2], "level_ms": 64.0},
    "convnext": {"name": "convnext", "width": 16, "blocks": 2, "level_ms": 64.0},
    "attention": {
        "name": "convnext",
        "width": 16,
        "blocks": 2,
        "level_ms": 64.0,
        "attention_heads": 2,
        "attention_reach": 5,
    },
    "grid": {
        "name": "grid",
        "n_fft": 128,
        "hop_length": 32,
        "width": 8,
        "blocks": 2,
        "level_ms": 64.0,
    },
    "hifigan": {
        "name": "hifigan",
        "width": 8,
        "scales": 2,
        "kernel_sizes": [3],
        "dilations": [1, 2],
        "level_ms": 64.0,
    },
    "segan": {
        "name": "segan",
        "channels": [4, 8, 8],
        "kernel_size": 7,
        "stride": 4,
        "level_ms": 64.0,
        "attention_heads": 2,
    },
}


# One that is not named above is tested at the sizes that it has by default
SMALL |= {name: {"name": name} for name in generators.names() if name not in SMALL}


def save(folder: Path, options: dict[str, Any], generator: Generator) -> Path:
    checkpoint.save_model(folder, generator, {"generator": options, "sample_rate": 16000})
    return folder


def waves(length: int, batch: int = 2) -> torch.Tensor:
    return torch.stack(
        [
            torch.from_numpy(speech_like(i, length / 16000 + 0.1)[:length]).float()
            for i in range(batch)
        ]
    )[:, None]


def randomised(options: dict[str, Any], seed: int = 0) -> Generator:
    """A generator away from the identity that it starts at."""
    torch.manual_seed(seed)
    generator = generators.build(options, sample_rate=16000).eval()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return generator


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small streaming model with random weights."""
    return save(
        tmp_path_factory.mktemp("causal") / "model", SMALL["causal"], randomised(SMALL["causal"])
    )


@pytest.fixture(scope="module")
def identity() -> Denoiser:
    """A Denoiser that gives back what it hears, up to half its rate of 16 kHz."""
    generator = generators.build(SMALL["causal"], sample_rate=16000)
    assert isinstance(generator, causal.Generator)
    torch.nn.init.zeros_(generator.head.weight)
    return Denoiser(generator, 16000)


def in_pieces(
    stage: Any, wave: np.ndarray, draw: np.random.Generator, largest: int = 40000
) -> list[np.ndarray]:
    """Send (T, channels) through a stage in pieces of random sizes, 1 sample among them.

    Returns the finished pieces.
    """
    pieces, start = [], 0
    while start < len(wave):
        size = int(draw.choice([1, 2, 255, 256, 257, int(draw.integers(1, largest))]))
        pieces.append(stage.push(wave[start : start + size]))
        start += size
    return [*pieces, stage.flush()]


def whole(generator: Generator, wave: np.ndarray) -> np.ndarray:
    """(T, channels) at once."""
    with torch.inference_mode():
        return generator(torch.from_numpy(wave.T.copy())[:, None])[:, 0].numpy().T


def save_halver(folder: Path, *, sample_rate: int = 16000, gain: float = -0.5) -> Path:
    """A model directory; its output is half of its input, or 1 + gain of it."""
    built = generators.build(SMALL["convnext"], sample_rate=sample_rate)
    assert isinstance(built, convnext.Generator)
    with torch.no_grad():
        built.head.weight.zero_()
        built.head.bias.zero_()[: built.stft.bins] = gain
    written = {"generator": SMALL["convnext"]}
    checkpoint.save_model(
        folder, built, {**written, "sample_rate": sample_rate, "experiment": written}
    )
    return folder
