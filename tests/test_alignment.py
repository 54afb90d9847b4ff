"""Pairs are looked at: a lag, a wrong file, folders exchanged, wherever clean meets another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import cli, one_error_line, speech_like, write
from gan_denoise.signal import alignment
from kaldi import pairs
from small_corpora import prepare

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


def test_pairs_that_are_late_by_other_times_are_refused() -> None:
    """Most of them: a lag that differs is none that somebody could take out of all."""
    late = {
        f"u{seed}": alignment.match(
            speech_like(seed), noisy(speech_like(seed), seed, lag=lag, snr_db=snr_db), RATE
        )
        for seed, (lag, snr_db) in enumerate([(160, 20.0), (-500, 0.0), (900, 5.0), (2500, -3.0)])
    }
    right = {f"v{seed}": match for seed, match in enumerate(matches(5).values())}
    assert alignment.judge(late | dict(list(right.items())[:3])).refusal == (
        "later than clean by other times (-: earlier): 4 of 7: u0 by +10.0 ms, u1 by -31.2 ms,"
        " u2 by +56.2 ms and 1 more"
    )
    assert alignment.judge(late | right).refusal == ""


@pytest.mark.parametrize(("lag", "snr_db"), [(1, 20.0), (7, 20.0), (7, 0.0), (-4, 0.0)])
def test_a_short_lag_of_most_is_said(lag: int, snr_db: float) -> None:
    judged = alignment.judge(matches(lag=lag, snr_db=snr_db))
    way = "later" if lag > 0 else "earlier"
    (note,) = judged.notes
    assert note.startswith(f"{way} than clean by {abs(lag) / 16:.2f} ms: ")
    assert judged.refusal == ""


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


def corpus(folder: Path, spoil: str = "", which: str = "") -> Path:
    """Four speakers by three recordings: folder/SPLIT/{clean,noisy}/SPEAKER_NUMBER.wav.

    spoil: what happens to the pairs whose utt_ids begin with one of `which`.
    """
    for index, (part, speaker) in enumerate(
        zip(("train", "train", "dev", "test"), "abcd", strict=True)
    ):
        for number in range(3):
            utt_id = f"{speaker}_{number}"
            clean = speech_like(10 * index + number)
            both = [clean, noisy(clean, seed=index, snr_db=10.0)]
            if which and utt_id.startswith(tuple(which.split())):
                late = noisy(clean, index, 99 * (number + 1), 10.0)
                both = {"exchange": both[::-1], "same": [clean] * 2, "late": [clean, late]}[spoil]
            for kind, wave in zip(("clean", "noisy"), both, strict=True):
                write(folder / part / kind / f"{utt_id}.wav", wave, subtype="PCM_16")
    return folder


@pytest.mark.parametrize(
    ("spoil", "which", "words"),
    [
        ("exchange", "d", "in test, the clean recordings have more noise in their pauses"),
        ("late", "d", "in test, later than clean by other times"),
        ("same", "d", "all 3 noisy recordings of test are the clean ones, such as d_0: put"),
    ],
)
def test_each_split_is_judged_by_itself(tmp_path: Path, spoil: str, which: str, words: str) -> None:
    one_error_line(prepare(corpus(tmp_path / "corpus", spoil, which), tmp_path / "data"), words)


def test_each_pair_of_folders_is_judged_by_itself(tmp_path: Path) -> None:
    folder = corpus(tmp_path / "corpus", "exchange", "b")
    for kind in ("clean", "noisy"):
        (folder / "train2" / kind).mkdir(parents=True)
        for path in folder.glob(f"train/{kind}/b_*"):
            path.rename(folder / "train2" / kind / path.name)
    words = "in train2/clean and train2/noisy, the clean recordings have more noise"
    one_error_line(prepare(folder, tmp_path / "data"), words, "are the folders swapped?")


def test_a_few_noisy_recordings_that_are_clean_are_counted(tmp_path: Path) -> None:
    result = prepare(corpus(tmp_path / "corpus", "same", "a_1 d_2"), tmp_path / "data")
    assert result.returncode == 0, result.stderr
    assert "2 of 12 noisy recordings are the clean ones, such as a_1" in result.stderr


def test_gaps_are_deeper_without_noise_and_not_by_a_filter() -> None:
    speech = speech_like(1, 2.0)
    clean = pairs._gaps_db(speech, RATE)
    assert float(np.median(clean - pairs._gaps_db(noisy(speech, 0, snr_db=10.0), RATE))) > 6.0
    filtered = np.convolve(speech, [1.0, -0.95])[: len(speech)]
    assert abs(float(np.median(clean - pairs._gaps_db(filtered, RATE)))) < 3.0


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
