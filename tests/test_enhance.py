"""Enhancement of arrays and files: pieces, levels, sample rates, memory, the command `enhance`."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

import gan_denoise
from conftest import cli, one_error_line, speech_like, write
from gan_denoise import audio
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.packaged import BOXED
from gan_denoise.signal import streaming
from small_models import SMALL, randomised, whole


@pytest.mark.parametrize("name", SMALL)
def test_pieces_equal_the_whole_for_every_generator(
    name: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_S", 0.3)
    monkeypatch.setattr(streaming, "_STEP_S", 0.3)
    denoiser, wave = (
        Denoiser(randomised(SMALL[name]), 16000),
        speech_like(0, 3.0).astype(np.float32)[:, None],
    )
    expected, draw = whole(denoiser.generator, wave), np.random.default_rng(0)
    cuts = np.sort(draw.integers(0, len(wave), 9))
    enhanced = np.concatenate(list(denoiser.blocks(np.split(wave, cuts), 16000, 1)))
    np.testing.assert_allclose(enhanced, expected, rtol=0.0, atol=1e-5)
    if denoiser.streams:
        assert isinstance(denoiser.stream(16000), streaming.Live)
    else:
        with pytest.raises(InputError, match="cannot stream"):
            denoiser.stream()


@pytest.mark.parametrize("gain_db", [-40.0, -20.0, 20.0])
@pytest.mark.parametrize("name", SMALL)
def test_level_does_not_matter(name: Any, gain_db: float) -> None:
    denoiser = Denoiser(randomised(SMALL[name]), 16000)
    wave = speech_like(0).astype(np.float32)
    gain = np.float32(10 ** (gain_db / 20))
    np.testing.assert_allclose(
        denoiser(wave * gain, 16000) / gain, denoiser(wave, 16000), atol=5e-6
    )
    assert not denoiser(np.zeros(1000), 16000).any()


@pytest.mark.parametrize(
    ("rate", "channels"), [(16000, 1), (48000, 2), (44100, 1), (8000, 3), (192000, 1), (11025, 8)]
)
def test_rates_and_channels_keep_shape_and_time(
    identity: Denoiser, rate: int, channels: int
) -> None:
    time = np.arange(rate // 2 + 1) / rate
    wave = np.stack([np.sin(2 * np.pi * 440 * (i + 1) * time) for i in range(channels)], axis=1)
    enhanced = identity(wave, rate)
    assert enhanced.shape == wave.shape
    middle = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(enhanced[middle], wave[middle], atol=1e-3)  # aligned to the sample


def test_what_the_model_does_not_hear_is_dropped_or_kept(identity: Denoiser) -> None:
    time = np.arange(48000) / 48000
    low, high = 0.1 * np.sin(2 * np.pi * 1000 * time), 0.1 * np.sin(2 * np.pi * 15000 * time)
    middle = slice(4800, -4800)
    np.testing.assert_allclose(identity(low + high, 48000)[middle], low[middle], atol=1e-3)
    kept = identity(low + high, 48000, high_band="keep")
    np.testing.assert_allclose(kept[middle], (low + high)[middle], atol=1e-3)
    half = identity(low + high, 48000, mix=0.5)
    np.testing.assert_allclose(half[middle], (low + 0.5 * high)[middle], atol=1e-3)
    np.testing.assert_array_equal(identity(low, 48000, mix=0.0), np.float32(low))


def test_no_output_is_an_input(tmp_path: Path) -> None:
    """Of another file than its own: the recordings were overwritten without a word."""
    inner, outer = tmp_path / "rec/day1/day1/a.wav", tmp_path / "rec/day1/a.wav"
    for path in (inner, outer):
        write(path, speech_like(0))
    before = outer.read_bytes()
    result = cli("enhance", "--mix", 0, "--overwrite", tmp_path / "rec/day1", tmp_path / "rec")
    one_error_line(result, f"written from {inner}, and is an input file ({outer})")
    (tmp_path / "wav.scp").write_text(f"b {outer}\na {inner}\n")
    result = cli("enhance", "--mix", 0, "--overwrite", tmp_path / "wav.scp", tmp_path / "rec/day1")
    one_error_line(result, f"written from {inner}, and is an input file ({outer})")
    assert outer.read_bytes() == before


def test_memory_does_not_grow_with_the_file(identity: Denoiser, tmp_path: Path) -> None:
    # 38 MB as float32
    source = write(tmp_path / "long.wav", np.tile(speech_like(0, 10.0), 60), subtype="PCM_16")
    tracemalloc.start()
    enhance_file(identity, source, tmp_path / "out.wav")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sf.info(tmp_path / "out.wav").frames == 9600000 and peak < 15e6


def test_enhance_from_the_command_line(model_dir: Path, tmp_path: Path) -> None:
    noisy = tmp_path / "in"
    for number in range(3):
        write(noisy / f"a/{number}.wav", speech_like(number, 0.5))
    write(noisy / "b/stereo.flac", np.stack([speech_like(5, 0.4, 48000)] * 2, axis=1), 48000)
    (noisy / "b/rubbish.wav").write_text("rubbish " * 50)
    result = cli("enhance", "--model", model_dir, "--jobs", 2, noisy, tmp_path / "out")
    one_error_line(result, "rubbish.wav", "cannot be decoded")
    assert "4 of 5 files done, 1 failed" in result.stderr
    stereo, rate = audio.read(tmp_path / "out/b/stereo.flac")
    assert stereo.shape == (19200, 2) and rate == 48000
    one = tmp_path / "out/a/0.wav"
    direct = gan_denoise.load(model_dir)(audio.read_mono(noisy / "a/0.wav")[0], 16000)
    np.testing.assert_allclose(audio.read_mono(one)[0], direct, atol=1.0 / 32768)
    result = cli("enhance", "--model", model_dir, noisy / "a/0.wav", one)
    one_error_line(result, "0.wav: exists", "--overwrite")
    # By the model in the package
    boxed = ("--model", "boxed")  # as it was called when there was one
    result = cli("enhance", *boxed, "--overwrite", "--mix", 0, noisy / "a/0.wav", one)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(audio.read(one)[0], audio.read(noisy / "a/0.wav")[0])
    result = cli("enhance", "--model", model_dir, noisy / "a", tmp_path / "out/a")
    assert result.returncode == 0 and "0 of 3 files done, 3 skipped" in result.stderr
    one_error_line(
        cli("enhance", "--model", tmp_path, noisy, tmp_path / "x"), "is not a model directory"
    )
    one_error_line(cli("enhance", tmp_path / "absent.wav", "x.wav"), "no such file")
    assert cli("enhance", noisy).returncode == 2
    assert cli("enhance", "--help").returncode == 0


@pytest.mark.parametrize(("name", "generator"), [("live", "bands"), ("files", "ahead")])
def test_the_models_in_the_package_are_small_and_described(name: str, generator: str) -> None:
    assert (BOXED[name] / "model.safetensors").stat().st_size <= 4 * 2**20
    config = json.loads((BOXED[name] / "config.json").read_text())
    assert config["licence"] and config["generator"]["name"] == generator
    card = (BOXED[name].parent / "CARD.md").read_text()
    for words in ("## Data", "## Procedure", "## Figures", "## Licence", "## Limits"):
        assert words in card
    sounds = (BOXED[name].parent / "SOUNDS.txt").read_text()
    assert "freesound.org" in sounds  # whose sounds it learnt from
