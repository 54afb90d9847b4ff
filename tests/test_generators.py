"""What every generator keeps to: lengths, receptive field, independence, its sizes, bf16."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import speech_like
from gan_denoise import generators
from gan_denoise.contract import Generator, streams
from gan_denoise.errors import InputError
from gan_denoise.generators import convnext
from small_models import SMALL, save, waves


@pytest.fixture(params=SMALL)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SMALL[request.param]


@pytest.fixture
def generator(options: dict[str, Any]) -> Generator:
    torch.manual_seed(0)
    built = generators.build(options, sample_rate=16000).eval()
    with torch.no_grad():  # away from the identity that it starts at
        for parameter in built.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return built


@pytest.fixture
def any_model_dir(generator: Generator, options: dict[str, Any], tmp_path: Path) -> Any:
    return save(tmp_path / "model", options, generator)


@pytest.mark.parametrize("length", [1, 2, 127, 128, 129, 513, 8000])
def test_a_generator_takes_any_length(generator: Generator, length: int) -> None:
    noisy = waves(length)
    with torch.no_grad():
        enhanced = generator(noisy)
        assert torch.equal(enhanced, generator(noisy))  # no randomness at inference
    assert (
        enhanced.shape == noisy.shape
        and enhanced.dtype == torch.float32
        and torch.isfinite(enhanced).all()
    )


def test_a_generator_declares_its_receptive_field(generator: Generator) -> None:
    if generator.receptive_field == math.inf:
        # What it remembers is explicit; how far ahead: test_enhance
        assert streams(generator)
        assert set(generator.initial_state()) >= {"past", "tail"}
        return
    reach = generator.receptive_field
    assert isinstance(reach, int)
    middle = reach + 4000
    noisy = waves(2 * middle, batch=1)
    changed = noisy.clone()
    changed[..., : middle - reach] *= -0.5
    changed[..., middle + reach :] *= -0.5
    with torch.no_grad():
        ours, theirs = generator(noisy)[..., middle], generator(changed)[..., middle]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_generators_items_are_independent_and_all_parameters_learn(generator: Generator) -> None:
    noisy = waves(4000, batch=3)
    with torch.no_grad():
        assert torch.allclose(generator(noisy)[1], generator(noisy[1:2])[0], atol=1e-6)
    generator.train()(noisy).square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in generator.parameters()
    )


def test_48_khz_gives_windows_of_the_same_duration() -> None:
    built = generators.build(SMALL["convnext"], sample_rate=48000)
    assert isinstance(built, convnext.Generator)
    assert (built.stft.n_fft, built.stft.hop_length) == (1536, 384)


def test_unknown_generators_and_sizes_are_refused() -> None:
    with pytest.raises(InputError, match='unknown name "convnet" \\(did you mean "convnext"'):
        generators.build({"name": "convnet"}, sample_rate=16000)
    with pytest.raises(InputError, match='unknown key "widht" \\(did you mean "width"'):
        generators.build({"name": "convnext", "widht": 3}, sample_rate=16000)
    with pytest.raises(InputError, match="kernel_size must be odd"):
        generators.build({"name": "convnext", "kernel_size": 4}, sample_rate=16000)


def test_a_generator_is_one_file_and_its_sizes_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With annotations as they are, without `from __future__ import annotations`."""
    (tmp_path / "scaled.py").write_text(
        "import torch\n"
        "from gan_denoise import contract\n"
        "class Generator(contract.Generator):\n"
        "    receptive_field, hop_length = 0, 1\n"
        "    def __init__(self, sample_rate: int = 16000, width: int = 4, gain: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.full((width,), gain))\n"
        "    def forward(self, noisy):\n"
        "        return noisy * self.weight.mean()\n"
    )
    monkeypatch.setattr(generators, "__path__", [*generators.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "gan_denoise.generators.scaled", raising=False)
    assert "scaled" in generators.names()
    built = generators.build({"name": "scaled", "width": 12}, sample_rate=16000)
    assert built.weight.shape == (12,)
    for sizes in ({"width": "twelve"}, {"width": -3.5}, {"width": 0}, {"gain": "loud"}):
        with pytest.raises(InputError, match=f"generator scaled: {next(iter(sizes))}: expected a"):
            generators.build({"name": "scaled", **sizes}, sample_rate=16000)


def test_bf16_keeps_its_output_in_float32() -> None:
    torch.manual_seed(0)
    generator = generators.build(
        {"name": "convnext", "width": 16, "blocks": 1}, sample_rate=16000
    ).eval()
    noisy = torch.from_numpy(speech_like(0)).float()[None, None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        halved = generator(noisy)
    assert halved.dtype == torch.float32
    assert torch.allclose(halved, generator(noisy), atol=5e-3)
