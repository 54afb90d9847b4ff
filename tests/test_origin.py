"""Where a model comes from: data, code and settings by content, and its teacher."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import gan_denoise
from conftest import CONF, cli, one_error_line, speech_like
from gan_denoise.packaged import MODELS
from small_models import save_halver
from training.experiment import read_experiment


def test_a_model_leads_back_to_its_inputs(
    prepared: Path, tiny_experiment: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    exp = tmp_path / "exp"
    in_process(tiny_experiment, "--data", prepared, "--exp", exp)
    model, changed = exp / "model", tmp_path / "data"
    result = cli("explain", "--data", prepared, model)
    assert result.returncode == 0 and "✗" not in result.stdout and not result.stderr
    marks = re.findall(r"^.. ([✓ ]) (\S+)", result.stdout, re.MULTILINE)
    parts = ["weights", "experiment", "data/train", "data/dev", "split", "noise", "code"]
    assert [name for _, name in marks] == [*parts, "versions", "machine"]
    assert {name for mark, name in marks if mark == " "} == {"experiment", "machine"}
    commit = json.loads((model / "config.json").read_text())["origin"]["code"]["commit"]
    assert commit is None or commit[:12] in result.stdout

    # What was replaced since is said, and what is not here cannot be
    shutil.copytree(prepared, changed)
    noise = (changed / "train/noise.yaml").read_text()
    (changed / "train/noise.yaml").write_text(noise.replace("fingerprint: ", "fingerprint: a"))
    with (model / "model.safetensors").open("ab") as weights:
        weights.write(b" ")
    (exp / "scores.csv").write_text("utt_id\n")
    (exp / "scores.yaml").write_text("model: abc\nis: def\n")
    result = cli("explain", "--data", changed, model)
    broken = re.findall(r"✗ (\S+)", result.stdout)
    assert broken == ["weights", "data/train", "noise", "scores.csv"]
    note = "note: 4 of these no longer match (✗); the weights are not those that were saved"
    assert result.stderr.strip() == note
    assert "✓" not in cli("explain", "--data", tmp_path, model).stdout.split("noise")[0]
    one_error_line(cli("explain", tmp_path), "is not a model directory")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"origin": None}))
    assert "not noted" in cli("explain", model).stdout  # one of before this was noted
    for name in ("boxed", "live", "files"):
        result = cli("explain", name)
        assert "✓ weights" in result.stdout
        assert "so the model is not damaged" in result.stderr or not result.stderr


def test_a_teacher_is_followed(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One that halves everything: beside its weight clean speech does not count."""
    teacher = save_halver(tmp_path / "teacher")
    monkeypatch.setenv("PLACE", str(tmp_path))
    common = [tiny_experiment, "--data", prepared, "optimizer.lr=3e-3", "optimizer.warmup_steps=0"]
    distil, exp = "distil={teacher: $PLACE/teacher, weight: 1000}", tmp_path / "pupil"
    in_process(*common, "steps=60", "ema_decay=0.9", distil, "--exp", exp)
    wave = speech_like(3, 1.0)
    heard = gan_denoise.load(exp / "model")(wave, 16000)
    assert np.sqrt(np.mean(heard**2) / np.mean(wave**2)) == pytest.approx(0.5, abs=0.1)
    told = cli("explain", "--data", prepared, exp / "model").stdout
    assert re.search(r"✓ teacher +\$PLACE/teacher", told)

    named = read_experiment(tiny_experiment, ["distil={teacher: l1_mrstft, weight: 1}"], CONF)
    assert named.distil and named.distil.teacher == MODELS["l1_mrstft"]

    capsys.readouterr()
    other = save_halver(tmp_path / "other", sample_rate=8000)
    for changes, words in {
        f"distil={{teacher: {other}, weight: 1}}": "works at 8000 Hz, needed: 16000 Hz",
        "distil={teacher: nowhere, weight: 1}": "teacher: nowhere: is not a model directory",
        "distil={teacher: a/b, weight: 1}": "teacher: a/b is not a model directory",
        "distil={teacher: l1_mrstf, weight: 1}": 'did you mean "l1_mrstft"?',
        f"distil={{teacher: {teacher}, weight: -1}}": "distil: weight: expected a number from 0",
        f"distil={{teachers: {teacher}}}": 'unknown key "teachers"',
    }.items():
        with pytest.raises(SystemExit):
            in_process(*common, changes, "--exp", tmp_path / "none")
        assert words in capsys.readouterr().err and not (tmp_path / "none").exists()
    shutil.copytree(other, teacher, dirs_exist_ok=True)
    assert re.search(r"✗ teacher", cli("explain", exp / "model").stdout)
    save_halver(teacher, gain=-0.4)
    with pytest.raises(SystemExit):
        in_process(*common, "steps=60", "ema_decay=0.9", distil, "--exp", exp)
    assert "pupil: was trained with another teacher" in capsys.readouterr().err
    config = json.loads((exp / "model/config.json").read_text())
    config["experiment"]["init"] = str(exp / "model")  # a circle
    (exp / "model/config.json").write_text(json.dumps(config))
    assert "init" in cli("explain", exp / "model").stdout
    (exp / "model/config.json").write_text('{"experiment": "x"}')
    one_error_line(cli("explain", exp / "model"), "is not a model configuration")
