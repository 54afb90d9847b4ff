"""Model directories and checkpoints: whole or refused, and nothing in them is executed."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import gan_denoise
from conftest import speech_like
from gan_denoise import checkpoint, generators
from gan_denoise.errors import InputError
from small_models import SMALL, save


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    options = SMALL["convnext"]
    return save(tmp_path / "model", options, generators.build(options, sample_rate=16000))


def test_a_model_directory_is_whole_or_refused(model_dir: Path, tmp_path: Path) -> None:
    denoiser = gan_denoise.load(model_dir)
    wave = speech_like(0)
    assert denoiser(wave, 16000).shape == wave.shape
    with pytest.raises(InputError, match="is not a model directory, config.json is missing"):
        gan_denoise.load(tmp_path / "nowhere")
    config = json.loads((model_dir / "config.json").read_text())
    config["generator"]["width"] = 24
    (model_dir / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.safetensors: does not fit config\.json"):
        gan_denoise.load(model_dir)
    (model_dir / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(InputError, match="does not fit"):
        gan_denoise.load(model_dir)


class Malice:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_a_pickle_executes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_dir: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Malice()))
    with pytest.raises(InputError, match="nothing in it was executed"):
        checkpoint.load_state(tmp_path / "checkpoint.pt")
    torch.save({"step": Malice()}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match="nothing in it was executed"):
        checkpoint.load_state(tmp_path / "checkpoint.pt")
    (model_dir / "model.safetensors").write_bytes((tmp_path / "checkpoint.pt").read_bytes())
    with pytest.raises(InputError, match="does not fit"):
        gan_denoise.load(model_dir)
    assert not (tmp_path / "executed").exists()
