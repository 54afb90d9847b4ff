"""check.py: what it finds wrong with recordings, and with a training before it begins."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from checking import recordings
from checking.rehearsal import by_heart, range_test
from conftest import CONF, ROOT, one_error_line, run, speech_like, write
from gan_denoise.datadir import DataDir
from training.experiment import read_experiment

CHECK = ROOT / "recipes/check.py"


def batch(seed: int, related: bool = True) -> Any:
    clean = np.stack([speech_like(10 * seed + place, 0.5) for place in range(2)])
    noise = 0.05 * np.random.default_rng(seed).standard_normal(clean.shape)
    noisy = (clean if related else clean[:, ::-1]) + noise
    return tuple(torch.tensor(x, dtype=torch.float32)[:, None] for x in (noisy, clean))


@pytest.fixture
def experiment(tiny_experiment: Path) -> Any:
    changes = ["generator.width=16", "generator.dropout=0.0", "optimizer.lr=3e-3"]
    return lambda *more: read_experiment(tiny_experiment, [*changes, *more], CONF)


def test_what_is_wrong_with_recordings_is_said(tmp_path: Path) -> None:
    speech = {f"a_{number}": speech_like(number, 1.0) for number in range(4)}
    speech["a_1"] = np.clip(40.0 * speech["a_1"], -1.0, 1.0)
    speech["a_2"] = 1e-6 * speech["a_2"]
    speech["a_3"] = np.concatenate([speech["a_3"], np.zeros(20000)])
    speech |= {"b_0": speech["a_0"], "b_1": speech_like(9)}
    clean = {key: write(tmp_path / f"{key}.wav", wave) for key, wave in speech.items()}
    noisy = {
        key: write(tmp_path / f"noisy/{key}.wav", np.clip(wave + (key == "b_1") * 0.5, -1, 1))
        for key, wave in speech.items()
    }

    def split(names: str, speaker: str) -> DataDir:
        keys = names.split()
        wav, noisy_wav = {key: clean[key] for key in keys}, {key: noisy[key] for key in keys}
        return DataDir(wav, dict.fromkeys(keys, speaker), dict.fromkeys(keys, 1.0), noisy=noisy_wav)

    splits = {"train": split("a_0 a_1 a_2 a_3", "ann"), "dev": split("b_0 b_1", "ann")}
    measured = recordings.measure_all(splits, jobs=1)
    said = list(recordings.warnings(splits, measured))
    for words in (
        "train: 1 of 4 is silent: a_2",
        "train: 1 of 4 is clipped: a_1",
        "train: 1 of 4 is a pause by more than half: a_3",
        "dev: 1 of 2 has more noise than speech, by 10 dB: b_1",
        "1 recordings are there more than once: train/a_0 = dev/b_0",
        "speakers of train are in dev too: ann",
    ):
        assert words in said
    assert len(said) == 6
    heading, train, dev = recordings.rows(splits, measured)
    assert train[:3] == ["train", "1", "4"] and len(heading) == len(dev) == 8
    one = next(one for one in measured["train"] if one.utt_id == "a_0")
    assert one.level_db == pytest.approx(-20.0, abs=0.1) and one.seconds == 1.0


def test_a_batch_is_learnt_or_the_reason_is_said(experiment: Any) -> None:
    learnt = by_heart(experiment(), 16000, batch(0), updates=60, share=0.8)
    assert not learnt.problem and min(learnt.losses[-10:]) <= learnt.target < learnt.of_input
    problems = {
        "stays at": (["optimizer.lr=0.0"], batch(0), 20),
        "wanted was": ([], batch(0, related=False), 40),
        "is not finite: lower optimizer.lr=1e+30": (["optimizer.lr=1e30"], batch(0), 20),
    }
    for words, (changes, waves, updates) in problems.items():
        attempt = by_heart(experiment(*changes), 16000, waves, updates=updates, share=0.2)
        assert words in attempt.problem


def test_the_range_test_finds_where_the_loss_falls_and_where_it_breaks(experiment: Any) -> None:
    batches = itertools.cycle([batch(seed) for seed in range(4)])
    tried = range_test(experiment(), 16000, batches, updates=100)
    assert tried.losses[0] == pytest.approx(1.0, abs=0.05)  # relative to the input's
    assert min(tried.losses) < 0.9 and max(tried.losses[-5:]) > 1.3 * min(tried.losses)
    assert tried.suggestion is not None and 1e-4 < tried.suggestion < 3e-2
    assert tried.rates == sorted(tried.rates)


def test_the_program_by_a_users_hand(prepared: Path, tiny_experiment: Path, tmp_path: Path) -> None:
    command = ["python", CHECK, tiny_experiment, "--data", prepared, "--out", tmp_path / "out"]
    short = ["--updates", "20", "optimizer.lr=0.0"]
    result = run(*command, *short)
    one_error_line(result, "a batch is not learnt", "optimizer.lr=0")
    assert "train" in result.stdout and "Learning rates:" in result.stdout
    page = (tmp_path / "out/check.html").read_text()
    assert page.count("<svg") == 2 and "https://" not in page and "not learnt" in page
    one_error_line(run(*command, "optimizer.speed=1"), 'unknown key "speed"')
