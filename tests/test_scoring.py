"""Scores of many pairs: each value or its reason, CSV, and the command `score`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import metrics, scoring
from gan_denoise.scoring import Pair


def test_what_cannot_be_scored_is_empty_with_a_reason(tmp_path: Path) -> None:
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
        one, two, three = (
            write(tmp_path / f"{utt_id}_{i}.wav", wave, subtype="FLOAT")
            for i, wave in enumerate((reference, enhanced, noisy[: len(reference)]))
        )
        pairs.append(Pair(utt_id, one, two, three))
    good = pairs[0]
    pairs += [Pair("no_clean", None, good.enhanced), Pair("no_enhanced", good.clean, None)]
    burst = np.concatenate([speech_like(0, 0.6), np.zeros(8000)])
    many = write(tmp_path / "many.wav", np.tile(burst, 64))
    rows = list(scoring.score(pairs, jobs=2))
    assert [row["utt_id"] for row in rows] == [*cases, "no_clean", "no_enhanced"]
    assert rows[:6] == list(scoring.score(pairs[:6], jobs=1))
    some = ("pesq_wb", "covl", "si_sdr")  # all of them take long for a minute
    long = scoring.score([Pair("many", many, many, many)], jobs=1, metrics=some)
    scored = {row["utt_id"]: row for row in [*rows, *long]}
    assert all(scored["good"][name] is not None for name in metrics.METRICS)
    for utt_id, reason in {
        "silent_clean": "the clean signal is silent",
        "silent_enhanced": "the enhanced signal is silent",
        "cut": "has 31999 samples",
        "nan": "NaN",
    }.items():
        for name in metrics.METRICS:
            assert scored[utt_id][name] is None and reason in scored[utt_id][f"{name}_reason"], (
                utt_id,
                name,
            )
    for utt_id, what in {"no_clean": "clean", "no_enhanced": "enhanced"}.items():
        assert {scored[utt_id][f"{name}_reason"] for name in metrics.METRICS} == {
            f"has no {what} file"
        }
    assert (
        "more than 50 utterances" in scored["many"]["pesq_wb_reason"]
        and scored["many"]["covl"] is None
    )
    assert scored["many"]["si_sdr"] is not None
    assert (
        "0.25 s" in scored["short"]["pesq_wb_reason"]
        and "active speech" in scored["short"]["stoi_reason"]
    )
    assert scored["short"]["si_sdr"] is not None
    scoring.write_csv(tmp_path / "scores.csv", rows)
    again = {row["utt_id"]: row for row in scoring.read_csv(tmp_path / "scores.csv")}
    assert again["good"]["pesq_wb"] == pytest.approx(scored["good"]["pesq_wb"], abs=1e-6)
    assert again["nan"]["pesq_wb"] is None and "NaN" in again["nan"]["pesq_wb_reason"]


def test_score_from_the_command_line(tmp_path: Path) -> None:
    for number in range(3):
        clean = speech_like(number, 1.5)
        write(tmp_path / f"clean/{number}.wav", clean)
        write(
            tmp_path / f"enhanced/{number}.wav",
            clean + np.random.default_rng(number).standard_normal(24000) / 100,
        )
    result = run(
        "gan-denoise",
        "score",
        "--csv",
        tmp_path / "s.csv",
        "--jobs",
        2,
        tmp_path / "clean",
        tmp_path / "enhanced",
    )
    assert result.returncode == 0, result.stderr
    assert "pesq_wb" in result.stdout and "3 of 3 utterances" in result.stdout
    assert [row["utt_id"] for row in scoring.read_csv(tmp_path / "s.csv")] == ["0", "1", "2"]
    csv = ("--csv", tmp_path / "s.csv", tmp_path / "clean", tmp_path / "enhanced")
    one_error_line(cli("score", *csv), "s.csv: exists", "--overwrite")
    path = tmp_path / "clean/0.wav"
    result = cli("score", "--overwrite", "--csv", path, path, tmp_path / "enhanced/0.wav")
    one_error_line(result, "0.wav: is an input")
    (tmp_path / "enhanced/2.wav").unlink()
    result = cli("score", tmp_path / "clean", tmp_path / "enhanced", "--metrics", "si_sdr,stoi")
    one_error_line(result, "2: all metrics: has no enhanced file")
    assert "2 of 3 utterances" in result.stdout and "pesq" not in result.stdout
    swapped = cli(
        "score", "--metrics", "si_sdr", tmp_path / "enhanced/1.wav", tmp_path / "clean/1.wav"
    )
    assert swapped.returncode == 0 and "is CLEAN the first argument?" in swapped.stderr
    result = cli("score", tmp_path / "clean/0.wav", tmp_path / "enhanced/1.wav")
    assert result.returncode == 0, result.stderr
    write(tmp_path / "other/9.wav", speech_like(0))
    one_error_line(cli("score", tmp_path / "clean", tmp_path / "other"), "no utt_id in common")
    Path(tmp_path / "none").mkdir()
    one_error_line(cli("score", tmp_path / "clean", tmp_path / "none"), "holds no audio files")


def test_score_without_its_extra_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who enhances needs no C compiler, which pesq does."""
    wave = write(tmp_path / "a.wav", speech_like(0))
    monkeypatch.setitem(sys.modules, "pesq", None)
    one_error_line(cli("score", wave, wave), "(pesq, for pesq_wb)", 'pip install ".[score]"')


@pytest.mark.parametrize("length", [1, 100, 409, 410, 2000])
def test_a_recording_too_short_for_a_metric_has_a_reason_and_keeps_its_other_scores(
    length: int, tmp_path: Path
) -> None:
    wave = 0.1 * np.sin(np.arange(length) + 1.0)
    for name in ("clean", "enhanced", "noisy"):
        write(
            tmp_path / f"{name}.wav",
            wave + (0.01 if name != "clean" else 0.0) * np.cos(3.0 * np.arange(length)),
        )
    clean, enhanced, noisy = (tmp_path / f"{name}.wav" for name in ("clean", "enhanced", "noisy"))
    pair = Pair("a", clean, enhanced, noisy)
    (row,) = scoring.score([pair], jobs=1)
    assert row["wsdr"] is not None
    for name in ("stoi", "estoi", "pesq_wb"):
        assert row[name] is None and row[f"{name}_reason"], row
        assert "Traceback" not in row[f"{name}_reason"] and "\n" not in row[f"{name}_reason"]


def test_an_exception_of_a_metrics_library_is_the_reason_of_that_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(signals: metrics.Signals) -> float:
        raise IndexError("in\nsome library")

    monkeypatch.setitem(metrics.ALL, "stoi", replace(metrics.ALL["stoi"], function=broken))
    write(tmp_path / "a.wav", speech_like(0))
    pair = scoring.Pair("a", tmp_path / "a.wav", tmp_path / "a.wav")
    values = scoring._score_group((pair, ("stoi", "si_sdr")))
    assert values == {"stoi": (None, "IndexError: in some library"), "si_sdr": (100.0, None)}
