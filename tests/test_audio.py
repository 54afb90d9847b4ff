"""Reading, writing and resampling audio; files that are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from conftest import speech_like, write
from gan_denoise import audio
from gan_denoise.errors import InputError, os_error_line
from gan_denoise.system.files import write_atomically


def test_pcm16_is_kept_exactly_and_nothing_clips(tmp_path: Path) -> None:
    wave = np.array([-32768, -1, 0, 1, 32767]) / 32768
    audio.write_wav(tmp_path / "a.wav", wave, 16000)
    assert sf.info(tmp_path / "a.wav").subtype == "PCM_16"
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "a.wav", dtype="float64")[0], wave)
    loud = np.array([0.5, 1.0])  # +1.0 has no PCM 16 value
    audio.write_wav(tmp_path / "b.wav", loud, 16000)
    assert sf.info(tmp_path / "b.wav").subtype == "FLOAT"
    np.testing.assert_array_equal(audio.read_mono(tmp_path / "b.wav")[0], loud)


@pytest.mark.parametrize(
    ("rate_in", "rate_out"), [(48000, 16000), (16000, 48000), (44100, 16000), (22050, 48000)]
)
def test_resampling_keeps_time_and_level(rate_in: int, rate_out: int) -> None:
    time_in, time_out = np.arange(rate_in) / rate_in, np.arange(rate_out) / rate_out
    resampled = audio.resample(np.sin(2 * np.pi * 440 * time_in), rate_in, rate_out)
    assert len(resampled) == rate_out
    middle = slice(rate_out // 10, -rate_out // 10)
    np.testing.assert_allclose(
        resampled[middle], np.sin(2 * np.pi * 440 * time_out)[middle], atol=1e-4
    )


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        audio.read(tmp_path / "absent.wav")
    (tmp_path / "text.wav").write_text("hello " * 100)
    with pytest.raises(InputError, match=r"text\.wav: cannot be decoded"):
        audio.read(tmp_path / "text.wav")


def test_torchaudio_can_be_imported_beside_a_cpu_build() -> None:
    functional = audio.torchaudio().functional
    import torch

    assert functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16000).shape == (257, 40)
    assert functional.resample(torch.zeros(1, 480), 48000, 16000).shape == (1, 160)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "a", "old")

    def full(source: Any, target: Any) -> None:
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


def test_find_takes_audio_only_and_sorts_in_c_order(tmp_path: Path) -> None:
    for name in ("b.wav", "B.flac", "a/x.WAV", ".hidden/y.wav"):
        write(tmp_path / name, speech_like(0, 0.1), format="FLAC" if "flac" in name else "WAV")
    (tmp_path / "notes.txt").write_text("x")
    assert [path.relative_to(tmp_path).as_posix() for path in audio.find(tmp_path)] == [
        "B.flac",
        "a/x.WAV",
        "b.wav",
    ]
