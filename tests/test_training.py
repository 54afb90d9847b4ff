"""A training's data, numbers and validation: what it reads, bf16, values that are not finite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import one_error_line, run
from gan_denoise import audio, checkpoint, datadir, generators
from gan_denoise.corruption.segments import Segments
from gan_denoise.errors import InputError
from training.validation import Validation
from training_runs import TRAIN, train, weights


def own_copy(prepared: Path, data: Path) -> dict[str, Path]:
    """A copy of a prepared folder, with noisy files of its own; returns those of train."""
    shutil.copytree(prepared, data)
    for split in ("train", "dev"):
        noisy = {
            utt_id: data / split / f"noisy/{utt_id}.wav"
            for utt_id in datadir.read(data / split).wav
        }
        datadir.write_table(data / split / "noisy.scp", noisy)
    return {
        utt_id: data / f"train/noisy/{utt_id}.wav" for utt_id in datadir.read(data / "train").wav
    }


UNREADABLE = """
import os, runpy, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
sys.argv.pop(0)
from gan_denoise.errors import InputError
from gan_denoise.corruption.segments import Segments
def unreadable(self, position):
    raise InputError("rec.wav: cannot be read any more")
Segments.__getitem__ = unreadable  # inherited by the forked worker
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_a_data_worker_meets_is_its_one_line(
    prepared: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    """And ends the run: workers that outlived the error have kept the process for ever."""
    options = (tiny_experiment, "--data", prepared, "--exp", tmp_path / "exp", "workers=1")
    result = run("python", "-c", UNREADABLE, TRAIN, *options)
    one_error_line(result, "error: rec.wav: cannot be read any more")
    assert json.loads((tmp_path / "exp/status.json").read_text())["state"] == "failed"


def test_a_run_knows_its_data_by_content(
    prepared: Path,
    tiny_experiment: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, exp = tmp_path / "data", tmp_path / "exp"
    path = next(iter(own_copy(prepared, data).values()))
    command = [tiny_experiment, "--data", data, "--exp", exp]
    in_process(*command)
    wave, rate = audio.read_mono(path)
    audio.write_wav(path, wave[::-1], rate)  # as long as before
    for message in (
        f"{path}: is not what stage 1 has made of",
        "exp: was trained on other data (data differs)",
    ):
        with pytest.raises(SystemExit):
            in_process(*command)
        assert message in capsys.readouterr().err
        # As in a folder that other tools have made
        (data / "train/noisy.made").unlink(missing_ok=True)


@pytest.mark.parametrize("cached", [True, False])
def test_pairs_that_are_not_equally_long_are_refused(
    cached: bool, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not cached:
        monkeypatch.setattr("gan_denoise.corruption.segments._CACHE_BYTES", 0)
    utt_id, path = next(iter(own_copy(prepared, tmp_path / "data").items()))
    wave, rate = audio.read_mono(path)

    def refusal() -> str:
        segments = Segments(
            datadir.read(tmp_path / "data/train", noisy=True),
            length=8000,
            sample_rate=16000,
            gain_db=[0.0, 0.0],
            seed=0,
        )
        with pytest.raises(InputError) as refused:
            [segments[position] for position in range(20)]
        return str(refused.value)

    audio.write_wav(path, wave[:-100], rate)
    assert f"{path}: {utt_id}: has {len(wave) - 100} samples, its clean counterpart" in refusal()
    audio.write_wav(path, wave[: len(wave) // 2], rate)
    assert f"{path}: {utt_id}: lasts" in refusal()


def test_below_16_khz_the_narrow_band_decides_which_model_is_best(
    prepared: Path, tmp_path: Path
) -> None:
    data = datadir.read(prepared / "dev", noisy=True)
    validations = {
        rate: Validation(data, tmp_path, count=1, examples=1, sample_rate=rate, jobs=1)
        for rate in (8000, 16000, 48000)
    }
    assert [each.decisive for each in validations.values()] == ["pesq_nb", "pesq_wb", "pesq_wb"]
    at_8_khz: dict[str, Any] = {kind: {} for kind in ("wav", "noisy")}
    for kind, files in at_8_khz.items():
        for utt_id, path in getattr(data, kind).items():
            wave, _ = audio.read_mono(path, sample_rate=8000)
            files[utt_id] = tmp_path / f"{kind}/{utt_id}.wav"
            audio.write_wav(files[utt_id], wave, 8000)
    narrow = Validation(
        replace(data, **at_8_khz), tmp_path / "own", count=1, examples=1, sample_rate=8000, jobs=1
    )
    generator = generators.build({"name": "convnext", "width": 8, "blocks": 1}, sample_rate=8000)
    scores = narrow(generator, torch.device("cpu"))
    assert list(scores) == ["pesq_nb", "estoi", "si_sdr"] and 1.0 < scores["pesq_nb"] < 4.6


def test_a_gan_trains_in_bf16_with_outputs_and_losses_in_float32(
    prepared: Path, tiny_gan: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    for precision in ("bf16", "float32"):
        in_process(
            tiny_gan, "--data", prepared, "--exp", tmp_path / precision, f"precision={precision}"
        )
    logs = [
        (tmp_path / precision / "log.jsonl").read_text().splitlines()
        for precision in ("bf16", "float32")
    ]
    for halved, whole in zip(*(map(json.loads, log) for log in logs), strict=True):
        for name in ("loss", "discriminator_loss", "mrstft"):
            if name in whole:
                assert halved[name] == pytest.approx(whole[name], rel=0.02), (name, whole["update"])
    modules = weights(tmp_path / "bf16")[1]["modules"]
    # The weights themselves are whole
    assert modules["generator"]["head.weight"].dtype == torch.float32
    assert not torch.equal(
        modules["generator"]["head.weight"],
        weights(tmp_path / "float32")[1]["modules"]["generator"]["head.weight"],
    )


def test_a_discriminator_that_is_not_finite_stops_the_run(
    prepared: Path,
    tiny_gan: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = [
        "adversary.optimizer.lr=1e30",
        "adversary.optimizer.lr_final=1e30",
        "checkpoint_every=1",
    ]
    with pytest.raises(SystemExit):
        in_process(tiny_gan, "--data", prepared, "--exp", tmp_path / "exp", *changes)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (
        "discriminator_gradient_norm" in line
        and "utterances" in line
        and "checkpoint.pt is kept" in line
    )
    assert "lower adversary.optimizer.lr" in line
    assert json.loads((tmp_path / "exp/status.json").read_text())["state"] == "failed"
    state = checkpoint.load_state(tmp_path / "exp/checkpoint.pt")
    discriminators = state["modules"]["adversary"]["discriminators"]
    assert all(torch.isfinite(value).all() for value in discriminators.values())


def test_a_loss_that_is_not_finite_stops_the_run(
    prepared: Path, tiny_experiment: Path, tmp_path: Path
) -> None:
    exp = tmp_path / "exp"
    result = train(
        tiny_experiment,
        "--data",
        prepared,
        "--exp",
        exp,
        "optimizer.lr=1e30",
        "optimizer.warmup_steps=0",
        "steps=50",
        env={"PYTHONSAFEPATH": "1"},  # its own modules are found all the same
    )
    one_error_line(
        result, "not finite", "utterances", "there is no checkpoint yet: lower optimizer.lr"
    )
    state = (
        checkpoint.load_state(exp / "checkpoint.pt") if (exp / "checkpoint.pt").exists() else None
    )
    assert state is None or all(
        torch.isfinite(value).all() for value in state["modules"]["generator"].values()
    )
