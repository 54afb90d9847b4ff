"""Scenes: what surrounds a training segment, and that it is a function of (seed, position)."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyroomacoustics
import pytest
import torch

from conftest import CONF, ROOT, experiment_file, speech_like, write
from gan_denoise import datadir
from gan_denoise.corruption import channel
from gan_denoise.corruption.noise import Procedure, default
from gan_denoise.corruption.scenes import Scenes
from gan_denoise.corruption.segments import Segments
from gan_denoise.errors import InputError
from training.experiment import read_experiment

PLAIN = {
    "shares": {"noise": 1.0},
    "snr_db": [6.0, 6.0],
    "sources": 1,
    "recordings": [],
    "held_out": [],
    "synthetic": {"weight": 1.0, "kinds": []},
    "babble": 0.0,
    "voices": [3, 3],
    "tilt_db": 0.0,
    "equaliser_db": 0.0,
    "speed": [1.0, 1.0],
    "band_limit": 0.0,
}


@pytest.fixture
def recordings(tmp_path: Path) -> Any:
    """Two rains and a fan: noise that tells by its frequency which one it is."""
    time = np.arange(8000) / 16000
    for name, hz in (("rain_1", 1000), ("rain_2", 2000), ("fan_1", 4000)):
        write(tmp_path / "noise" / f"{name}.flac", 0.1 * np.sin(2 * np.pi * hz * time))
    return [{"folder": str(tmp_path / "noise"), "weight": 1.0, "by_kind": True}]


def build(procedure: Procedure | None = None, **changes: Any) -> Scenes:
    return Scenes(
        copy.deepcopy(PLAIN) | changes, source="x", sample_rate=16000, procedure=procedure
    )


def compose(
    scenes: Scenes, position: int, wave: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    wave = speech_like(0, 2.0).astype(np.float32) if wave is None else wave
    draw = np.random.default_rng(position)
    return scenes.compose(
        scenes.prepare(wave),
        0.5,
        16000,
        draw,
        f"{position}",
        lambda draw: speech_like(9, 1.5).astype(np.float32),
    )


def peak_hz(wave: np.ndarray) -> int:
    spectrum = np.abs(np.fft.rfft(wave))
    return round(np.argmax(spectrum) * 16000 / len(wave))


def test_noise_comes_at_its_snr_and_by_kind(recordings: dict[str, Any]) -> None:
    scenes, heard = build(recordings=recordings), []
    for position in range(60):
        clean, noisy = compose(scenes, position)
        np.testing.assert_array_equal(clean, speech_like(0, 2.0).astype(np.float32)[8000:24000])
        # Relative to the utterance's level, so that pauses do not count as quiet speech
        assert 10 * np.log10(
            np.mean(speech_like(0, 2.0) ** 2) / np.mean((noisy - clean) ** 2)
        ) == pytest.approx(6, abs=0.01)
        heard.append(peak_hz(noisy - clean))
    assert set(heard) == {1000, 2000, 4000}
    assert np.mean(np.array(heard) == 4000) == pytest.approx(
        0.5, abs=0.2
    )  # one of two kinds, not of three files
    held_out = build(recordings=recordings, held_out=["rain_2", "fan"])
    assert {peak_hz(np.subtract(*compose(held_out, position))) for position in range(9)} == {1000}
    assert (
        held_out.fingerprint() != scenes.fingerprint() == build(recordings=recordings).fingerprint()
    )


def test_each_setting_does_what_it_says(recordings: dict[str, Any]) -> None:
    clean, noisy = compose(build(shares={"clean": 1.0}), 0)
    np.testing.assert_array_equal(clean, noisy)
    clean, noisy = compose(build(default(), shares={"procedure": 1.0}), 0)
    np.testing.assert_allclose(noisy, default().apply(clean, "0", 16000), atol=1e-6)
    slow, _ = compose(
        build(shares={"clean": 1.0}, speed=[0.5, 0.5]),
        0,
        np.sin(np.arange(64000) * 0.4).astype(np.float32),
    )
    assert len(slow) == 16000 and peak_hz(slow) == pytest.approx(0.2 * 16000 / (2 * np.pi), abs=2)
    noise = torch.randn(32000, generator=torch.Generator().manual_seed(0)).numpy()
    limited = [
        compose(build(shares={"clean": 1.0}, band_limit=1.0), position, noise)[0]
        for position in range(20)
    ]
    above = [
        np.mean(np.abs(np.fft.rfft(wave)[7900:]) ** 2)
        / np.mean(np.abs(np.fft.rfft(wave)[1000:2000]) ** 2)
        for wave in limited
    ]
    assert np.mean(np.array(above) < 1e-3) > 0.4  # the others end gently
    tilted = [
        compose(build(shares={"clean": 1.0}, tilt_db=10.0), position, noise)[0]
        for position in range(40)
    ]
    slopes = [
        10
        * np.log10(
            np.mean(np.abs(np.fft.rfft(w)[7000:]) ** 2)
            / np.mean(np.abs(np.fft.rfft(w)[100:300]) ** 2)
        )
        for w in tilted
    ]
    assert -11.0 < min(slopes) < -6.0 and 6.0 < max(slopes) < 11.0
    clean, noisy = compose(build(babble=1.0, voices=[1, 1]), 3)
    voice = speech_like(9, 1.5).astype(np.float32)
    likeness = (
        np.correlate(noisy - clean, voice, mode="full").max()
        / np.linalg.norm(noisy - clean)
        / np.linalg.norm(voice)
    )
    assert likeness > 0.7  # a part of the other utterance, repeated


ROOMS = {"share": 1.0, "count": 3, "rt60_s": [0.2, 0.4], "distance_m": [0.5, 1.0]}


def test_a_channels_band_ends_gently_or_as_steeply_as_a_codecs() -> None:
    """Noise whose band ends so is else taken for speech."""
    hz, draw = np.arange(0.0, 8000.0, 10.0), np.random.default_rng(0)
    gains = [channel.band_gains(hz, draw, lowest_hz=3000.0) for _ in range(200)]
    ends = [int(np.argmax(20 * np.log10(gain[100:]) < -3.0)) + 100 for gain in gains]  # from 1 kHz
    falls = [
        -20 * np.log10(gain[round(1.05 * end)])
        for gain, end in zip(gains, ends, strict=True)
        if 100 < end < 700
    ]
    assert np.isfinite(gains).all() and np.quantile(falls, 0.2) < 10.0 < 80.0 < max(falls)


def test_a_room_reverberates_and_its_early_part_is_the_target() -> None:
    click = np.zeros(32000, np.float32)
    click[20000] = 1.0
    scenes = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 50.0})
    heard = [compose(scenes, position, click) for position in range(12)]
    assert len({clean.tobytes() for clean, _ in heard}) == 3  # rooms
    for clean, noisy in heard:
        begins, last = np.flatnonzero(abs(clean) > 0.1)[0], np.flatnonzero(abs(clean) > 1e-6)[-1]
        direct = begins + np.argmax(np.abs(clean[begins : begins + 5]))
        assert np.sum(clean[:16000] ** 2) == pytest.approx(1.0, abs=1e-3)
        assert last - direct == pytest.approx(800, abs=60)  # 50 ms
        np.testing.assert_allclose(noisy[:last], clean[:last], atol=1e-6)
        tail = np.sum(noisy[last:] ** 2)
        assert tail > 1e-4 and np.sum(noisy[direct + 4800 :] ** 2) < 0.1 * tail
    same = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 50.0})
    other = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 30.0})
    assert same.fingerprint() == scenes.fingerprint() != other.fingerprint()
    np.testing.assert_array_equal(compose(same, 5), compose(scenes, 5))
    off = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 50.0, "share": 0.0})
    np.testing.assert_array_equal(compose(off, 5), compose(build(shares={"clean": 1.0}), 5))


def test_rooms_are_the_same_on_any_number_of_cores() -> None:
    settings = ROOMS | {"early_ms": 50.0}
    prints = set()
    for threads in (1, 4):
        pyroomacoustics.constants.set("num_threads", threads)
        prints.add(build(shares={"clean": 1.0}, rooms=settings).fingerprint())
    assert len(prints) == 1


def test_what_was_said_before_reverberates_into_an_excerpt() -> None:
    """As if the room had heard the whole utterance."""
    scenes = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 50.0})
    wave = torch.randn(40000, generator=torch.Generator().manual_seed(0)).numpy()
    for position in range(3):
        clean, noisy = compose(scenes, position, wave)
        heard = {
            np.convolve(wave, room.full)[12000:28000].astype(np.float32).tobytes(): room
            for (room,) in scenes._rooms
        }
        whole = [np.frombuffer(one, np.float32) for one in heard]
        errors = [np.max(np.abs(noisy - one)) for one in whole]
        assert min(errors) < 1e-4
        room = list(heard.values())[int(np.argmin(errors))]
        np.testing.assert_allclose(clean, np.convolve(wave, room.early)[12000:28000], atol=1e-4)


TARGET = {"high_pass_hz": 60.0, "background_db": 15.0, "quiet_first": 1}


def test_the_target_has_no_rumble_and_what_is_heard_has() -> None:
    time = np.arange(32000) / 16000
    wave = (speech_like(0, 2.0) + 0.2 * np.sin(2 * np.pi * 25 * time)).astype(np.float32)
    quiet: dict[str, Any] = {"shares": {"clean": 1.0}, "target": TARGET}
    clean, noisy = compose(build(**quiet), 0, wave)
    below = slice(0, 50)  # of the spectrum of a second: hertz
    low, before = (
        np.abs(np.fft.rfft(signal * np.hanning(16000)))[below].max()
        for signal in (clean, wave[8000:24000])
    )
    assert low < 0.01 * before
    rumble = {"share": 1.0, "snr_db": [-10.0, -10.0]}
    clean, noisy = compose(build(**quiet, rumble=rumble), 0, wave)
    added = np.abs(np.fft.rfft(noisy - clean)) ** 2
    assert added[:200].sum() > 0.9 * added.sum()


def test_noise_alone_has_silence_for_a_target() -> None:
    clean, noisy = compose(build(shares={"alone": 1.0}, babble=1.0, voices=[3, 3]), 0)
    assert not clean.any() and np.sqrt(np.mean(noisy**2)) > 1e-3


def test_what_is_muted_offset_or_coded_is_so_for_both() -> None:
    quiet: dict[str, Any] = {"shares": {"clean": 1.0}}
    for position in range(8):
        clean, noisy = compose(build(**quiet, mutes=1.0), position)
        np.testing.assert_array_equal(clean, noisy)
    clean, noisy = compose(build(**quiet, offset=1.0), 0)
    assert np.ptp(noisy - clean) < 1e-6 and abs(np.mean(noisy - clean)) > 1e-3
    clean, noisy = compose(build(**quiet, codec=1.0), 0)
    np.testing.assert_array_equal(clean, noisy)
    assert np.abs(clean - compose(build(**quiet), 0)[0]).max() > 1e-4
    both: dict[str, Any] = {"babble": 1.0, "voices": [3, 3]}
    steady, changing = (
        compose(build(**both, changes=share), 1)[1] - compose(build(**both), 1)[0]
        for share in (0.0, 1.0)
    )
    assert np.abs(changing).min() == 0.0 or np.std(np.abs(changing)) > np.std(np.abs(steady))


def test_quiet_recordings_come_more_often() -> None:
    loud = np.tile(np.sin(np.arange(1600)), 10).astype(np.float32)
    waves = {"steady": loud, "pauses": np.concatenate([loud, 1e-4 * loud])}
    scenes = build(shares={"clean": 1.0}, target=TARGET | {"quiet_first": 3})
    assert sorted(scenes.visits(waves, waves.__getitem__)) == ["pauses"] * 3 + ["steady"]


def test_measured_rooms_are_rooms(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("hall_1", "hall_2", "cellar_1"):
        tail = 0.1 * draw.standard_normal(16000) * np.exp(-np.arange(16000) / 3000)
        response = np.concatenate([np.zeros(40), [1.0], tail])
        write(tmp_path / f"{name}.wav", response / 4, subtype="FLOAT")
    rooms = ROOMS | {"early_ms": 50.0, "folder": str(tmp_path)}
    scenes = build(shares={"clean": 1.0}, rooms=rooms)
    assert sorted(len(room) for room in scenes._rooms) == [1, 1, 1, 1, 1, 2, 2]  # three simulated
    click = np.zeros(32000, np.float32)
    click[20000] = 1.0
    clean, noisy = compose(scenes, 0, click)
    assert np.sum(clean**2) == pytest.approx(1.0, abs=1e-3) and np.sum(noisy**2) > 1.005
    with pytest.raises(InputError, match="no such folder"):
        build(shares={"clean": 1.0}, rooms=rooms | {"folder": "$NOWHERE"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": {"high_pass_hz": 60.0}}, 'target: "background_db" is missing'),
        ({"rumble": {"share": 2.0, "snr_db": [0, 1]}}, "rumble: share"),
        ({"mutes": -1.0}, "mutes"),
        ({"codecs": 0.1}, 'unknown key "codecs"'),
    ],
)
def test_a_setting_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(shares={"clean": 1.0}, **changes)


def test_the_readmes_rooms_are_a_setting() -> None:
    (setting,) = re.findall(r"`(scenes\.rooms=\{.*?\})`", (ROOT / "recipes/README.md").read_text())
    boxed = ROOT / "recipes/experiments/boxed.yaml"
    scenes = read_experiment(boxed, [setting], CONF).scenes
    assert scenes is not None and scenes["rooms"]["count"] == 64


def test_noise_in_a_room_keeps_its_snr(recordings: dict[str, Any]) -> None:
    scenes = build(recordings=recordings, rooms=ROOMS | {"early_ms": 50.0})
    silent = build(shares={"clean": 1.0}, rooms=ROOMS | {"early_ms": 50.0})
    wave = speech_like(0, 2.0).astype(np.float32)
    for position in range(3):
        draws = [np.random.default_rng(position) for _ in range(2)]
        (clean, noisy), (_, heard) = (
            each.compose(each.prepare(wave), 0.5, 16000, draw, "", lambda draw: wave)
            for each, draw in zip((scenes, silent), draws, strict=True)
        )
        filtered = np.mean(clean**2) / np.mean(wave[8000:24000] ** 2)
        level = np.mean(wave**2) * filtered / np.mean((noisy - heard) ** 2)
        assert 10 * np.log10(level) == pytest.approx(6, abs=0.01)


def test_segments_in_scenes_are_a_function_of_seed_and_position(
    prepared: Path, recordings: dict[str, Any]
) -> None:
    data = datadir.read(prepared / "train", noisy=True)
    varied = {
        "shares": {"noise": 1.0, "procedure": 1.0, "both": 1.0, "clean": 1.0},
        "snr_db": [-5.0, 25.0],
        "sources": 3,
    }
    varied |= {
        "recordings": recordings,
        "synthetic": {"weight": 1.0, "kinds": ["wind"]},
        "babble": 0.2,
        "voices": [1, 3],
    }
    varied |= {"tilt_db": 6.0, "equaliser_db": 3.0, "speed": [0.8, 1.2], "band_limit": 0.3}
    varied |= {"rooms": ROOMS | {"share": 0.5, "early_ms": 50.0}}
    settings: dict[str, Any]
    settings = {"length": 8000, "sample_rate": 16000, "gain_db": [0.0, 0.0]}
    one, other = (
        Segments(data, seed=0, scenes=build(default(), **varied), **settings) for _ in range(2)
    )
    forwards, backwards = [one[i] for i in range(24)], [other[i] for i in reversed(range(24))][::-1]
    for mine, theirs in zip(forwards, backwards, strict=True):
        assert mine["utt_id"] == theirs["utt_id"] and mine["clean"].shape == mine[
            "noisy"
        ].shape == (1, 8000)
        assert torch.equal(mine["noisy"], theirs["noisy"]) and torch.equal(
            mine["clean"], theirs["clean"]
        )
    assert 1 <= sum(torch.equal(item["noisy"], item["clean"]) for item in forwards) < 16
    assert not torch.equal(
        Segments(data, seed=1, scenes=build(default(), **varied), **settings)[0]["clean"],
        forwards[0]["clean"],
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": [1.1, 0.9]}, "speed: 1.1 is above 0.9: swap the two"),
        ({"shares": {"noize": 1}}, 'shares: unknown key "noize" \\(did you mean "noise"'),
        ({"babble": 2.0}, "babble: expected a number from 0 to 1"),
        (
            {"recordings": [{"folder": "$NOWHERE/x", "weight": 1.0, "by_kind": True}]},
            r"\$NOWHERE/x: no such folder",
        ),
        ({"synthetic": {"weight": 1.0, "kinds": ["whale"]}}, "unknown kind 'whale'"),
        ({}, "neither recordings nor synthetic"),
        ({"shares": {"both": 1}}, "came with the corpus"),
        ({"rooms": {"share": 0.5}}, 'rooms: "count" is missing'),
        ({"rooms": ROOMS | {"early_ms": 50.0, "rt60_s": [0.5, 2.0]}}, "rt60_s: expected a number"),
        (
            {"babble": 1.0, "rooms": ROOMS | {"early_ms": 50.0, "rt60_s": [0.05, 0.05]}},
            "x: rooms: 0 of 3 have rt60_s",
        ),
    ],
)
def test_bad_scenes_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**changes)


def test_an_experiment_has_scenes_or_fresh_noise(tmp_path: Path) -> None:
    path = experiment_file(tmp_path / "x.yaml", f"scenes: {PLAIN}\nfresh_noise: true\n")
    with pytest.raises(InputError, match="set fresh_noise=false"):
        read_experiment(path, [], CONF)
    assert read_experiment(path, ["fresh_noise=false"], CONF).scenes == PLAIN
    with pytest.raises(InputError, match='scenes: "speed" is missing'):
        read_experiment(path, ["fresh_noise=false", "scenes.speed=null"], CONF)
