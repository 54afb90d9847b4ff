"""The fixed procedure: what it does to the spectrum, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from conftest import CONF, speech_like, write
from gan_denoise.corruption import noise
from gan_denoise.corruption.noise import Procedure
from gan_denoise.errors import InputError
from gan_denoise.signal import numpy_stft

HANN = numpy_stft.cosine_window("hann", 1024)
STFT = {"n_fft": 1024, "hop_length": 256, "window": "hann"}


def procedure(*manipulations: Any, seed: int = 0, stft: Any = STFT, **others: Any) -> Procedure:
    return Procedure({"seed": seed, "stft": stft, "manipulations": list(manipulations), **others})


def exact_signal(count: int = 2**15) -> np.ndarray:
    """Integers from a linear congruence, so that no library or machine decides what they are."""
    state, values = 1, []
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        values.append((state >> 16) % 8192 - 4096)
    return np.array(values) / 32768.0


def pcm_digest(samples: np.ndarray) -> str:
    return hashlib.sha256(np.rint(samples * 32768).astype("<i4").tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("noise", "7c824a9e2052431b"),
        ("noise_zero", "955788c0026048a6"),
        ("noise_scale", "4fd63a41987d2e4d"),
        ("noise_add", "a064df03a159eee1"),
        ("noise_set", "87a6e2df323437e7"),
        ("noise_heavy", "ca6abde16a05811e"),
        ("noise_public", "36800c501e17cb0b"),
    ],
)
def test_stored_digests(name: str, expected: str) -> None:
    noisy = Procedure.load(CONF / f"{name}.yaml").apply(exact_signal(), "p225_001", 16000)
    assert pcm_digest(noisy) == expected


def test_the_default_is_the_one_in_conf() -> None:
    assert yaml.safe_load((CONF / "noise.yaml").read_text()) == noise.DEFAULT


def test_stft_is_torchs_and_inverts() -> None:
    wave = np.random.default_rng(0).standard_normal(2560)
    window = torch.hann_window(1024, dtype=torch.float64)
    theirs = torch.stft(
        torch.from_numpy(wave), 1024, 256, window=window, pad_mode="constant", return_complex=True
    ).numpy()
    np.testing.assert_allclose(numpy_stft.stft(wave, HANN, 256), theirs.T, atol=1e-12)
    for length in (1, 2, 255, 256, 257, 1000, 2559):
        spectrum = numpy_stft.stft(wave[:length], HANN, 256)
        np.testing.assert_allclose(
            numpy_stft.istft(spectrum, HANN, 256, length), wave[:length], atol=1e-12
        )


@pytest.mark.parametrize(
    ("share", "redundancy"), list(itertools.product((0.1, 0.2, 0.3, 0.5), (2, 4)))
)
def test_zeroing_obeys_its_law(share: Any, redundancy: Any) -> None:
    """Mean SI-SDR is 10 log10((1 - p) R / p).

    With R = 2 the uneven overlap of Hann windows takes up to 0.26 dB off.
    """
    zero = procedure({"zero": {"share": share}}, stft={**STFT, "hop_length": 1024 // redundancy})
    ratios_db = []
    for index in range(20):
        clean = np.random.default_rng(index).standard_normal(16000)
        noisy = zero.apply(clean, f"utt{index}", 16000)
        target = (noisy @ clean) / (clean @ clean) * clean
        ratios_db.append(10 * np.log10((target @ target) / np.sum((noisy - target) ** 2)))
    assert np.mean(ratios_db) == pytest.approx(
        10 * np.log10((1 - share) * redundancy / share), abs=0.3
    )


def test_shares_are_met_and_draws_are_independent() -> None:
    seen = []
    for position in range(2):
        draws = noise._Draws(0, "a", position).uniform((400, 513))
        assert draws.min() >= 0.0 and draws.max() < 1.0 and abs(draws.mean() - 0.5) < 0.003
        seen.append(draws < 0.2)
    assert abs(seen[0].mean() - 0.2) < 0.003
    assert abs((seen[0] & seen[1]).mean() - 0.04) < 0.002


def test_each_manipulation_does_what_it_says() -> None:
    clean = speech_like(0)
    np.testing.assert_allclose(
        procedure({"zero": {"share": 1.0}}).apply(clean, "a", 16000), 0.0, atol=1e-12
    )
    scaled = procedure({"scale": {"share": 1.0, "factor": 3.0}}).apply(clean, "a", 16000)
    np.testing.assert_allclose(scaled, 3.0 * clean, atol=1e-12)
    nothing = procedure({"zero": {"share": 0.0}}, {"add": {"share": 0.0, "level": 9.0}}).apply(
        clean, "a", 16000
    )
    np.testing.assert_allclose(nothing, clean, atol=1e-12)

    spectrum = numpy_stft.stft(clean, HANN, 256)
    rms = np.sqrt(np.mean(np.abs(spectrum) ** 2))
    added = spectrum.copy()
    everywhere = np.ones(spectrum.shape, dtype=bool)
    noise._add(added, everywhere, {"level": 0.3}, rms, noise._Draws(0, "a", 0))
    np.testing.assert_allclose(np.abs(added - spectrum), 0.3 * rms, rtol=1e-9)
    assert abs(np.mean(np.angle(added - spectrum))) < 0.05  # phases all around
    flat = spectrum.copy()
    flat[0, 0] = 0.0
    noise._set(flat, everywhere, {"magnitude": 1.0}, rms, noise._Draws(0, "a", 0))
    np.testing.assert_allclose(np.abs(flat), 1.0)
    assert flat[0, 0] == 1.0  # no phase: phase 0
    assert np.angle(flat[5, 50]) == pytest.approx(np.angle(spectrum[5, 50]))


def test_band_and_quantile_choose_bins_of_the_clean_spectrum() -> None:
    clean = speech_like(1)
    spectrum = numpy_stft.stft(clean, HANN, 256)
    below = procedure({"zero": {"share": 1.0, "band_hz": [0, 4000]}}).apply(clean, "a", 16000)
    left = np.abs(numpy_stft.stft(below, HANN, 256))[4:-4]
    frequency_hz = np.arange(513) * 16000 / 1024
    assert left[:, frequency_hz < 3900].max() < 1e-3 * left[:, frequency_hz > 4100].max()
    power = np.abs(spectrum) ** 2
    loud = noise._within_quantile(power, 0.9, 1.0)
    assert loud.mean() == pytest.approx(0.1, abs=1e-4)
    assert power[loud].min() >= power[~loud].max()
    quiet = noise._within_quantile(np.zeros((3, 4)), 0.0, 0.5)  # ties keep their order
    assert quiet.ravel().tolist() == [True] * 6 + [False] * 6


def test_noise_depends_on_seed_and_utt_id_only() -> None:
    clean, other = speech_like(0), speech_like(1)
    default = noise.default()
    first = default.apply(clean, "a", 16000)
    default.apply(other, "b", 16000)
    np.testing.assert_array_equal(default.apply(clean, "a", 16000), first)
    assert np.abs(default.apply(clean, "b", 16000) - first).max() > 1e-3
    reseeded = Procedure({**noise.DEFAULT, "seed": 1})
    assert np.abs(reseeded.apply(clean, "a", 16000) - first).max() > 1e-3
    prints = {
        noise.default().fingerprint(16000),
        reseeded.fingerprint(16000),
        noise.default().fingerprint(48000),
    }
    assert len(prints) == 3


# Fingerprints at 16 kHz of before `sample_rate` was a key, which data directories carry
AT_16_KHZ = {
    "noise": "1bb822251b96",
    "noise_heavy": "5ee9232cab4c",
    "noise_mixed": "9a26684baecf",
    "noise_public": "de2b08f61d65",
}


@pytest.mark.parametrize("name", AT_16_KHZ)
def test_a_procedure_lasts_as_long_at_every_rate(name: str) -> None:
    procedure = Procedure.load(CONF / f"{name}.yaml")
    assert procedure.fingerprint(16000) == AT_16_KHZ[name]
    lengths = {rate: procedure.at(rate)["stft"] for rate in (8000, 16000, 44100, 48000)}
    assert all("sample_rate" not in stft for stft in lengths.values())
    sizes = {rate: (stft["n_fft"], stft["hop_length"]) for rate, stft in lengths.items()}
    n_fft, hop_length = sizes[16000]
    if name == "noise_public":  # which states no rate, and so samples at every rate
        assert set(sizes.values()) == {(n_fft, hop_length)}
        return
    assert sizes[48000] == (3 * n_fft, 3 * hop_length)
    assert sizes[8000] == (n_fft // 2, hop_length // 2)
    for size, at_16_khz in zip(sizes[44100], sizes[16000], strict=True):
        assert size / 44100 == pytest.approx(at_16_khz / 16000, rel=1e-3)
    # What a data directory keeps says the same in samples at its own rate
    kept = Procedure(procedure.at(48000))
    assert kept.fingerprint(48000) == procedure.fingerprint(48000) != AT_16_KHZ[name]


def test_a_procedure_does_the_same_to_a_voice_at_48_khz() -> None:
    """The STFT lasts as long, and so a magnitude that `set` gives is as loud."""
    for kind, options in (("zero", {}), ("scale", {"factor": 3.0}), ("set", {"magnitude": 0.02})):
        procedure = Procedure(
            {
                **noise.DEFAULT,
                "manipulations": [{kind: {"share": 0.5, "band_hz": [0, 4e3]} | options}],
            }
        )
        damage = []
        for rate in (16000, 48000):
            clean = speech_like(0, 1.0, rate)
            change = procedure.apply(clean, "a", rate) - clean
            damage.append(np.linalg.norm(change) / np.linalg.norm(clean))
        assert damage[1] == pytest.approx(damage[0], rel=0.1)


@pytest.mark.parametrize("length", [1, 2, 100, 255, 256, 257, 1023])
def test_short_files(length: int) -> None:
    noisy = noise.default().apply(speech_like(0)[2000 : 2000 + length], "a", 16000)
    assert noisy.shape == (length,) and np.isfinite(noisy).all()


@pytest.mark.parametrize("name", ["noise", "noise_heavy", "noise_public", "noise_mixed"])
def test_a_recording_in_pieces_has_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames at a time, as a recording of hours is worked on, and all at once."""
    procedure = Procedure.load(CONF / f"{name}.yaml")
    for length in (1, 255, 1025, 16001):
        clean = speech_like(0, 1.1)[:length]
        monkeypatch.setattr(noise, "_BINS_AT_ONCE", 2**20)
        whole = procedure.apply(clean, "utt", 16000)
        monkeypatch.setattr(noise, "_BINS_AT_ONCE", 2 * 513)
        monkeypatch.setattr(numpy_stft, "_SUMMED_AT_ONCE", 1000)
        np.testing.assert_array_equal(procedure.apply(clean, "utt", 16000), whole)


def test_a_sum_in_pieces_is_numpys() -> None:
    values = np.random.default_rng(0).standard_normal(300001) ** 2
    for size in (1, 127, 129, 4099, 300001):
        pieces = np.array_split(values[:size], 5)
        assert numpy_stft.pairwise_sum(pieces, size) == values[:size].sum()


def test_mix_draws_its_snr_and_its_split(tmp_path: Path) -> None:
    tone = np.sin(np.arange(8000) * 0.3)
    hiss = np.random.default_rng(0).standard_normal(30000) / 10
    write(tmp_path / "tone.wav", tone, 8000)
    write(tmp_path / "hiss.wav", hiss)
    mix = {
        "noise": {"train": ["tone.wav"], "test": [{"file": "hiss.wav", "start": 0.5, "end": 1.5}]},
        "snr_db": [3, 9],
    }
    parameters = {"seed": 0, "stft": STFT, "manipulations": [], "mix": mix}
    mixed = Procedure(parameters, folder=tmp_path)
    clean = speech_like(0, 2.0)  # longer than the excerpt of 1 s: it is repeated
    snrs_db = []
    for index in range(30):
        added = mixed.apply(clean, f"utt{index}", 16000) - clean
        snrs_db.append(10 * np.log10((clean @ clean) / (added @ added)))
    assert 3.0 <= min(snrs_db) < 4.5 and 7.5 < max(snrs_db) <= 9.0
    tonal = np.abs(np.fft.rfft(mixed.apply(clean, "utt", 16000, split="train") - clean)) ** 2
    assert np.sort(tonal)[-200:].sum() > 0.99 * tonal.sum()
    with pytest.raises(InputError, match="no recordings for the split dev"):
        mixed.apply(clean, "utt", 16000, split="dev")
    (tmp_path / "moved").mkdir()
    for name in ("tone.wav", "hiss.wav"):
        (tmp_path / "moved" / name).write_bytes((tmp_path / name).read_bytes())
    assert Procedure(parameters, folder=tmp_path / "moved").fingerprint(16000) == mixed.fingerprint(
        16000
    )
    write(tmp_path / "moved/hiss.wav", -hiss)
    assert Procedure(parameters, folder=tmp_path / "moved").fingerprint(16000) != mixed.fingerprint(
        16000
    )


def test_the_ready_made_mix_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOISE_DIR", raising=False)
    with pytest.raises(InputError, match=r"\$NOISE_DIR is not set"):
        Procedure.load(CONF / "noise_mix.yaml")
    monkeypatch.setenv("NOISE_DIR", str(tmp_path))
    for name, seconds in (
        ("ambient1", 2),
        ("ambient2", 2),
        ("ambient3", 2),
        ("ambient4", 2),
        ("ambient5", 2),
        ("kitchen", 84),
    ):
        write(
            tmp_path / f"{name}.flac",
            np.random.default_rng(0).standard_normal(seconds * 16000) / 20,
        )
    noisy = Procedure.load(CONF / "noise_mix.yaml").apply(speech_like(0), "a", 16000, split="dev")
    assert np.isfinite(noisy).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, 'unknown key "sed" \\(did you mean "seed"'),
        (
            {"manipulations": [{"zeros": {"share": 0.1}}]},
            'unknown key "zeros" \\(did you mean "zero"',
        ),
        (
            {"manipulations": [{"zero": {"share": 1.5}}]},
            "share: expected a number from 0 to 1, found 1.5",
        ),
        ({"manipulations": [{"zero": {}}]}, "share: expected a number from 0 to 1, found None"),
        ({"manipulations": [{"scale": {"share": 0.5}}]}, "factor: expected a number, found None"),
        ({"manipulations": [{"zero": {"share": 0.5, "quantile": [0.9, 0.1]}}]}, "quantile"),
        ({"manipulations": []}, "nothing would be corrupted"),
        (
            {"stft": {**STFT, "hop_length": 513}},
            "hop_length: expected a whole number from 1 to 512",
        ),
        (
            {"stft": {**STFT, "window": "han"}},
            "window: expected one of blackman, hamming, hann, rectangular",
        ),
        ({"seed": "0"}, "seed: expected a whole number"),
    ],
)
def test_bad_procedures_are_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Procedure({**noise.DEFAULT, **change})
