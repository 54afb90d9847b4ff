"""Pairs are looked at: a lag, a wrong file, folders exchanged, wherever clean meets another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import cli, one_error_line, speech_like, write
from gan_denoise.signal import alignment

RATE = 16000


def noisy(clean: np.ndarray, seed: int, lag: int = 0, snr_db: float = 0.0) -> np.ndarray:
    """Clean speech later by `lag` samples, in white noise."""
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    size = np.sqrt(np.mean(clean**2) / 10.0 ** (snr_db / 10.0))
    return np.roll(clean, lag) + size * noise


def matches(count: int = 10, **options: Any) -> dict[str, alignment.Match]:
    return {
        f"u{seed}": alignment.match(
            speech_like(seed), noisy(speech_like(seed), seed, **options), RATE
        )
        for seed in range(count)
    }


@pytest.mark.parametrize(
    ("lag", "words"), [(16, "later than clean by 1.0 ms"), (400, "by 25.0 ms")]
)
@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_a_lag_of_most_is_found_in_noise(lag: int, words: str, snr_db: float) -> None:
    assert words in alignment.judge(matches(lag=lag, snr_db=snr_db)).refusal
    assert "earlier than clean" in alignment.judge(matches(lag=-lag, snr_db=snr_db)).refusal


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_what_lies_right_is_left_alone(snr_db: float) -> None:
    assert alignment.judge(matches(snr_db=snr_db)) == alignment.Judgement("", [])


def test_one_late_pair_is_named_and_not_refused() -> None:
    pairs = matches() | {"late": alignment.match(speech_like(3), np.roll(speech_like(3), 80), RATE)}
    judged = alignment.judge(pairs)
    assert judged.refusal == "" and judged.notes == [
        "later than clean (-: earlier): 1 of 11: late by +5.0 ms"
    ]


def test_other_recordings_gain_and_polarity() -> None:
    measured = {
        f"u{seed}": alignment.match(speech_like(seed), speech_like(50 + seed, 1.2), RATE)
        for seed in range(8)
    }
    speech = speech_like(1)
    inverted = {"u": alignment.match(speech, -speech, RATE)}
    assert "upside down" in alignment.judge(inverted).refusal
    louder = alignment.match(speech, 4.0 * speech, RATE)
    assert louder.gain_db == pytest.approx(12.04, abs=0.01) and louder.lag_s == 0.0
    assert alignment.judge({"u": louder}).notes == [
        "louder than the clean ones by +12.0 dB in the median"
    ]
    pairs = np.random.default_rng(0).standard_normal((4, 2, RATE))
    measured = {f"u{k}": alignment.match(one, other, RATE) for k, (one, other) in enumerate(pairs)}
    assert "unlike clean" in alignment.judge(measured).refusal
    assert alignment.judge(measured, alike=False).refusal == ""  # a bad model's output is a result
    silence = alignment.match(np.zeros(100), np.zeros(100), RATE)
    assert silence.lag_s == 0.0 and silence.correlation == 0.0


def test_score_refuses_late_files_and_names_one(tmp_path: Path) -> None:
    for seed in range(4):
        clean = speech_like(seed)
        write(tmp_path / f"clean/u{seed}.wav", clean)
        write(tmp_path / f"late/u{seed}.wav", np.roll(clean, 160))
        write(tmp_path / f"one/u{seed}.wav", np.roll(clean, 160 if seed == 2 else 0))
    one_error_line(
        cli("score", "--metrics", "si_sdr", tmp_path / "clean", tmp_path / "late"),
        "late: 4 of 4 recordings are later than clean by 10.0 ms",
        "align them first",
    )
    result = cli("score", "--metrics", "si_sdr", tmp_path / "clean", tmp_path / "one")
    assert result.returncode == 0 and "u2 by +10.0 ms" in result.stderr
