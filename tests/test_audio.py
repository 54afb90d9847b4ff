"""Reading, writing, resampling; files that are whole or absent; strict YAML."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import soundfile as sf

from conftest import speech_like, write
from gan_denoise import audio, config
from gan_denoise.errors import InputError, os_error_line
from gan_denoise.files import write_atomically


def test_pcm16_is_kept_exactly_and_nothing_clips(tmp_path):
    wave = np.array([-32768, -1, 0, 1, 32767]) / 32768
    audio.write_wav(tmp_path / "a.wav", wave, 16000)
    assert sf.info(tmp_path / "a.wav").subtype == "PCM_16"
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "a.wav", dtype="float64")[0], wave)
    audio.write_wav(tmp_path / "b.wav", np.array([0.5, 1.0]), 16000)  # +1.0 has no PCM 16 value
    assert sf.info(tmp_path / "b.wav").subtype == "FLOAT"
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "b.wav")[0], np.float32([0.5, 1.0]))


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(48000, 16000), (16000, 48000), (44100, 16000), (22050, 48000)]
)
def test_resampling_keeps_time_and_level(rate_in, rate_out):
    time_in, time_out = np.arange(rate_in) / rate_in, np.arange(rate_out) / rate_out
    resampled = audio.resample(np.sin(2 * np.pi * 440 * time_in), rate_in, rate_out)
    assert len(resampled) == rate_out
    middle = slice(rate_out // 10, -rate_out // 10)
    np.testing.assert_allclose(
        resampled[middle], np.sin(2 * np.pi * 440 * time_out)[middle], atol=1e-4
    )


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        audio.read(tmp_path / "absent.wav")
    (tmp_path / "text.wav").write_text("hello " * 100)
    with pytest.raises(InputError, match=r"text\.wav: cannot be decoded"):
        audio.read(tmp_path / "text.wav")


def test_torchaudio_can_be_imported_beside_a_cpu_build():
    functional = audio.torchaudio().functional
    import torch

    assert functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16000).shape == (257, 40)
    assert functional.resample(torch.zeros(1, 480), 48000, 16000).shape == (1, 160)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_atomically(tmp_path / "a", "old")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError) as raised:
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and [path.name for path in tmp_path.iterdir()] == [
        "a"
    ]
    assert (
        os_error_line(raised.value)
        == f"{tmp_path / 'a'}: No space left on device: free some space or write elsewhere"
    )


def test_find_takes_audio_only_and_sorts_in_c_order(tmp_path):
    for name in ("b.wav", "B.flac", "a/x.WAV", ".hidden/y.wav"):
        write(tmp_path / name, speech_like(0, 0.1), format="FLAC" if "flac" in name else "WAV")
    (tmp_path / "notes.txt").write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in audio.find(tmp_path)] == [
        "B.flac",
        "a/x.WAV",
        "b.wav",
    ]


def test_experiments_merge_their_base(tmp_path):
    (tmp_path / "base.yaml").write_text("a: {x: 1, y: 2}\nb: [1, 2]\nc: 1e-3\n")
    (tmp_path / "own.yaml").write_text("base: base.yaml\na: {y: 3}\nb: [9]\nc: null\n")
    assert config.load_experiment(tmp_path / "own.yaml") == {"a": {"x": 1, "y": 3}, "b": [9]}
    changed = config.load_experiment(tmp_path / "own.yaml", ["a.x=null", "a.z=1e-2", "d.e=[1, 2]"])
    assert changed == {"a": {"y": 3, "z": 0.01}, "b": [9], "d": {"e": [1, 2]}}
    # Plain PyYAML would read a string
    assert config.load_experiment(tmp_path / "base.yaml")["c"] == 0.001
    (tmp_path / "third.yaml").write_text("base: own.yaml\n")
    with pytest.raises(InputError, match="one level only"):
        config.load_experiment(tmp_path / "third.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", 'key "a" is given twice'),
        ("a: [1\n", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
    ],
)
def test_bad_yaml_is_named(tmp_path, text, message):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        config.read_yaml(tmp_path / "bad.yaml")
