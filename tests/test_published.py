"""The published models: made from trained ones, called by their names, and their rows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import gan_denoise
import publish
from conftest import ROOT, cli, here, one_error_line, speech_like, write
from gan_denoise import checkpoint, packaged
from small_models import SMALL, randomised

CARD = ROOT / "gan_denoise/published/README.md"


def trained(folder: Path, **changes: Any) -> Path:
    """A model directory as a finished training leaves it."""
    options, written = SMALL["causal"], {"generator": SMALL["causal"], "steps": 5}
    config = {"name": "small", "step": 5, "generator": options, "sample_rate": 16000}
    facts = {**config, "experiment": written | changes.pop("experiment", {}), **changes}
    checkpoint.save_model(folder, randomised(options), facts)
    return folder


def test_a_model_is_published_and_called_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = trained(tmp_path / "model"), tmp_path / "published"
    (model / "trained_on.txt").write_text("salt 1\nspeaker 2\n")
    result = here(publish.main, "publish.py", model, out)
    assert result.returncode == 0 and re.search(r"small: float16, .* [4-9]\d\.\d dB", result.stderr)
    weights = safetensors.torch.load_file(out / "small/model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert (out / "small/trained_on.txt").read_text() == "salt 1\nspeaker 2\n"
    config = json.loads((out / "small/config.json").read_text())
    assert config["licence"] == "MIT" and config["rounding_snr_db"] > 40
    assert [path.name for path in out.iterdir()] == ["small"]
    monkeypatch.setitem(packaged.MODELS, "small", out / "small")
    wave = speech_like(0)
    ours, whole = (gan_denoise.load(name)(wave, 16000) for name in ("small", model))
    assert ours.dtype == np.float32 and 0 < np.abs(ours - whole).max() < 0.01 * np.abs(whole).max()
    noisy = write(tmp_path / "noisy.wav", wave, subtype="FLOAT")
    result = cli("enhance", "--model", "small", noisy, tmp_path / "out.wav")
    assert result.returncode == 0, result.stderr
    assert "✓ weights" in cli("explain", "small").stdout
    one_error_line(here(publish.main, "publish.py", model, out), "small: exists")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 4}, "was not trained to its end (4 of 5 updates)"),
        ({"experiment": {"scenes": {"recordings": []}}}, "licences config.json does not name"),
        ({"experiment": {"distil": {"teacher": "exp/l1/model"}}}, "does not name"),
    ],
)
def test_what_is_not_to_be_published_is_one_line(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    model = trained(tmp_path / "model", **changes)
    one_error_line(here(publish.main, "publish.py", model, tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_no_model_has_the_nearest_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    noisy = write(tmp_path / "noisy.wav", speech_like(0))
    for command in (("enhance", "--model", "fils", noisy, "out.wav"), ("explain", "fils")):
        one_error_line(cli(*command), "fils: is no model directory", 'did you mean "files"?')
    one_error_line(cli("export", "fils", "out.onnx"), "fils: is no model directory", "files")
    assert cli("serve", "--model", "fils").returncode == 2
    trained(tmp_path / "files")  # a folder with such a name has a path
    assert "seed" in cli("explain", "files").stdout.split("\n")[0]
    assert "small" in cli("explain", "./files").stdout.split("\n")[0]
