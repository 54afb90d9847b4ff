"""Synthetic background noise, and training on shares of conditions."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import CONF, speech_like
from gan_denoise.corruption import synthetic
from gan_denoise.corruption.conditions import Conditions, fresh_noise
from gan_denoise.corruption.noise import Procedure, default
from gan_denoise.corruption.scene_settings import check_fresh_noise
from gan_denoise.errors import InputError


def rms(wave: np.ndarray) -> float:
    return np.sqrt(np.mean(wave**2))


@pytest.mark.parametrize("kind", ["wind", "rain", "rhythm", "helicopter"])
def test_a_kind_is_the_same_everywhere_and_never_the_same_twice(kind: str) -> None:
    wave = synthetic.synthesise(kind)
    synthetic.synthesise.cache_clear()
    again = synthetic.synthesise(kind)
    assert wave.shape == (synthetic.SECONDS * synthetic.SAMPLE_RATE,) and np.isfinite(wave).all()
    assert rms(wave) == pytest.approx(1.0, abs=1e-3)
    assert hashlib.sha256(wave.tobytes()).digest() == hashlib.sha256(again.tobytes()).digest()
    # Coarse enough to hide the last bit of a machine
    assert np.array_equal(wave * 4096, np.rint(wave * 4096))
    pieces = wave.reshape(-1, 5 * synthetic.SAMPLE_RATE)
    alike = np.corrcoef(pieces) - np.eye(len(pieces))
    assert np.abs(alike).max() < 0.6


def test_synthetic_noise_is_mixed_at_its_snr_and_held_out_by_kind() -> None:
    parameters = yaml.safe_load((CONF / "noise_synthetic.yaml").read_text())
    kinds = {
        split: {entry["synthetic"] for entry in entries}
        for split, entries in parameters["mix"]["noise"].items()
    }
    assert kinds["train"].isdisjoint(kinds["test"]) and kinds["train"].isdisjoint(kinds["dev"])
    parameters["mix"] = {"snr_db": [6, 6], "noise": {"test": [{"synthetic": "fan"}]}}
    clean = speech_like(0, 2.0)
    added = Procedure(parameters).apply(clean, "a", 16000) - clean
    assert 20 * np.log10(rms(clean) / rms(added)) == pytest.approx(6.0, abs=1e-6)
    at_8_khz = Procedure(parameters).apply(clean, "a", 8000) - clean
    assert 20 * np.log10(rms(clean) / rms(at_8_khz)) == pytest.approx(6.0, abs=1e-6)
    parameters["mix"]["noise"] = {"test": [{"synthetic": "fun"}]}
    with pytest.raises(InputError, match="unknown kind 'fun' \\(did you mean \"fan\""):
        Procedure(parameters)


def test_conditions_come_in_their_shares_and_repeat() -> None:
    zero = Procedure({**default().parameters, "manipulations": [{"zero": {"share": 1.0}}]})
    mixed = Conditions({"clean": None, "zero": zero}, {"clean": 3.0, "zero": 1.0})
    clean = speech_like(0, 0.5)
    wiped = [not mixed.apply(clean, f"visit {i}", 16000, split="train").any() for i in range(400)]
    assert np.mean(wiped) == pytest.approx(0.25, abs=0.06)
    np.testing.assert_array_equal(
        mixed.apply(clean, "visit 0", 16000, split="train"), clean if not wiped[0] else 0.0
    )
    other = Conditions({"clean": None, "zero": zero}, {"clean": 1.0, "zero": 1.0})
    assert other.fingerprint(16000) != mixed.fingerprint(16000) != mixed.fingerprint(8000)


def test_fresh_noise_is_checked_and_found() -> None:
    for good in (True, False, {"data": 0.5, "clean": 1}, {"heavy": 1.0}):
        check_fresh_noise(good, "x", CONF)
    for bad, message in (
        ({"heavi": 1.0}, 'unknown condition "heavi" \\(did you mean "heavy"'),
        ({"clean": 0}, "clean"),
        ({}, "expected true, false, or shares"),
        (0.5, "expected true, false, or shares"),
    ):
        with pytest.raises(InputError, match=message):
            check_fresh_noise(bad, "x", CONF)
    record = {
        "procedure": default().parameters,
        "fingerprint": default().fingerprint(16000),
        "sample_rate": 16000,
    }
    assert fresh_noise(False, record, Path("x"), CONF) is None
    clean = speech_like(0, 0.5)
    both = fresh_noise({"data": 1.0}, record, Path("x"), CONF)
    expected = default().apply(clean, "v", 16000)
    assert both is not None
    np.testing.assert_array_equal(both.apply(clean, "v", 16000, split="train"), expected)
