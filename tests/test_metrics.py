"""Metrics: known values, reasons instead of repairs, workers that may die."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import one_error_line, run, speech_like, write

from gan_denoise import metrics, workers
from gan_denoise.errors import InputError
from gan_denoise.metrics import Pair, Signals


def signals(enhanced, clean=None, noisy=None) -> Signals:
    clean = speech_like(0, 2.0) if clean is None else clean
    return Signals(clean, enhanced, noisy, 16000)


def test_si_sdr_knows_its_values():
    time_s = np.arange(16000) / 16000
    sine, cosine = np.sin(2 * np.pi * 100 * time_s), np.cos(2 * np.pi * 100 * time_s)
    assert metrics.si_sdr(signals(sine + 0.1 * cosine, sine)) == pytest.approx(20.0, abs=1e-6)
    assert metrics.si_sdr(signals(5.0 * (sine + 0.1 * cosine) + 0.3, sine)) == pytest.approx(20.0, abs=1e-6)
    assert metrics.si_sdr(signals(sine, sine)) == 100.0
    assert metrics.si_sdr(signals(cosine, sine)) == -100.0


def test_wsdr_knows_its_values():
    clean = speech_like(0)
    noise = np.random.default_rng(0).standard_normal(len(clean)) / 10
    noisy = clean + noise
    assert metrics.wsdr(signals(clean, clean, noisy)) == pytest.approx(-1.0)
    share = (clean @ clean) / (clean @ clean + noise @ noise)
    cosine = clean @ noisy / np.sqrt((clean @ clean) * (noisy @ noisy))
    assert metrics.wsdr(signals(noisy, clean, noisy)) == pytest.approx(-share * cosine)
    with pytest.raises(metrics.Unscorable, match="needs the noisy signal"):
        metrics.wsdr(signals(clean, clean))


def test_pesq_takes_its_arguments_in_the_right_order():
    import pesq

    clean = speech_like(0, 2.0)
    noisy = clean + np.random.default_rng(0).standard_normal(len(clean)) / 50
    score = metrics.pesq_wb(signals(noisy, clean))
    assert score == pytest.approx(pesq.pesq(16000, clean.astype(np.float32), noisy.astype(np.float32), "wb"))
    assert metrics.pesq_wb(signals(clean, clean)) == pytest.approx(4.64, abs=0.01)
    assert 1.0 < score < 3.0


def test_what_cannot_be_scored_is_empty_with_a_reason(tmp_path):
    clean, silence = speech_like(0, 2.0), np.zeros(32000)
    noisy = clean + np.random.default_rng(1).standard_normal(32000) / 100
    cases = {
        "good": (clean, noisy),
        "silent_clean": (silence, noisy),
        "silent_enhanced": (clean, silence),
        "short": (clean[8000:11000], noisy[8000:11000]),
        "cut": (clean, noisy[:-1]),
        "nan": (clean, np.where(np.arange(32000) == 7, np.nan, noisy)),
    }
    pairs = []
    for utt_id, (reference, enhanced) in cases.items():
        files = [write(tmp_path / f"{utt_id}_{i}.wav", w, subtype="FLOAT") for i, w in enumerate((reference, enhanced))]
        pairs.append(
            Pair(utt_id, *files, write(tmp_path / f"{utt_id}_2.wav", noisy[: len(reference)], subtype="FLOAT"))
        )
    rows = list(metrics.score(pairs, jobs=2))
    assert [row["utt_id"] for row in rows] == list(cases)
    assert rows == list(metrics.score(pairs, jobs=1))
    found = {row["utt_id"]: row for row in rows}
    assert all(found["good"][name] is not None for name in metrics.METRICS)
    for utt_id, reason in {
        "silent_clean": "the clean signal is silent",
        "silent_enhanced": "the enhanced signal is silent",
        "cut": "has 31999 samples",
        "nan": "NaN",
    }.items():
        for name in metrics.METRICS:
            assert found[utt_id][name] is None and reason in found[utt_id][f"{name}_reason"], (utt_id, name)
    assert "0.25 s" in found["short"]["pesq_wb_reason"] and "active speech" in found["short"]["stoi_reason"]
    assert found["short"]["si_sdr"] is not None
    metrics.write_csv(tmp_path / "scores.csv", rows)
    again = {row["utt_id"]: row for row in metrics.read_csv(tmp_path / "scores.csv")}
    assert again["good"]["pesq_wb"] == pytest.approx(found["good"]["pesq_wb"], abs=1e-6)
    assert again["nan"]["pesq_wb"] is None and "NaN" in again["nan"]["pesq_wb_reason"]


def misbehave(item: str) -> str:
    if item == "die":
        os.kill(os.getpid(), 11)
    if item == "hang":
        time.sleep(60)
    if item == "refuse":
        raise InputError("no, thank you")
    return item.upper()


def test_workers_may_die_or_hang_alone():
    outcomes = list(workers.each(misbehave, ["a", "die", "b", "hang", "c", "refuse"], jobs=2, timeout_s=5))
    found = {outcome.item: outcome for outcome in outcomes}
    assert {item: outcome.result for item, outcome in found.items() if outcome.reason is None} == {
        "a": "A",
        "b": "B",
        "c": "C",
    }
    assert "died" in found["die"].reason and "too long" in found["hang"].reason
    assert found["refuse"].reason == "no, thank you"


def test_score_from_the_command_line(tmp_path):
    for number in range(3):
        clean = speech_like(number, 1.5)
        write(tmp_path / f"clean/{number}.wav", clean)
        write(tmp_path / f"enhanced/{number}.wav", clean + np.random.default_rng(number).standard_normal(24000) / 100)
    result = run(
        "gan-denoise", "score", "--csv", tmp_path / "s.csv", "--jobs", 2, tmp_path / "clean", tmp_path / "enhanced"
    )
    assert result.returncode == 0, result.stderr
    assert "pesq_wb" in result.stdout and "3 of 3 utterances" in result.stdout
    assert [row["utt_id"] for row in metrics.read_csv(tmp_path / "s.csv")] == ["0", "1", "2"]
    csv = ("--csv", tmp_path / "s.csv", tmp_path / "clean", tmp_path / "enhanced")
    one_error_line(run("gan-denoise", "score", *csv), "s.csv: exists", "--overwrite")
    clean = tmp_path / "clean/0.wav"
    result = run("gan-denoise", "score", "--overwrite", "--csv", clean, clean, tmp_path / "enhanced/0.wav")
    one_error_line(result, "0.wav: is an input")
    (tmp_path / "enhanced/2.wav").unlink()
    one_error_line(run("gan-denoise", "score", tmp_path / "clean", tmp_path / "enhanced"), "2: is in", "only")
    result = run("gan-denoise", "score", tmp_path / "clean/0.wav", tmp_path / "enhanced/1.wav")
    assert result.returncode == 0, result.stderr
    write(tmp_path / "other/9.wav", speech_like(0))
    one_error_line(run("gan-denoise", "score", tmp_path / "clean", tmp_path / "other"), "no utt_id in common")
    Path(tmp_path / "none").mkdir()
    one_error_line(run("gan-denoise", "score", tmp_path / "clean", tmp_path / "none"), "holds no audio files")
