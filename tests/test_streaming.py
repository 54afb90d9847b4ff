"""Streams: equal to the whole however they are cut, how late they are, the command `stream`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gan_denoise
from conftest import run, speech_like
from gan_denoise.contract import streams
from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.live import live
from gan_denoise.signal import streaming
from small_models import SMALL, in_pieces, randomised, save, whole


def test_a_stream_equals_the_whole() -> None:
    others = (randomised(SMALL[name], seed) for name in ("causal", "bands") for seed in range(2))
    for generator in (gan_denoise.load("live").generator, *others):
        draw = np.random.default_rng(0)
        wave = np.stack([speech_like(i, 4.0) for i in range(2)], axis=1).astype(np.float32)
        expected = whole(generator, wave)
        assert streams(generator)
        stream = streaming.Stream(generator, 2, 16000)
        for _ in range(2):  # the second time after the reset that a flush is
            streamed = np.concatenate(in_pieces(stream, wave, draw))
            np.testing.assert_allclose(streamed, expected, rtol=0.0, atol=1e-5)
        stream.push(wave[:5000])
        stream.reset()
        streamed = np.concatenate([stream.push(wave), stream.flush()])
        np.testing.assert_allclose(streamed, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000, 192000])
def test_a_stream_is_50_ms_behind_at_most_at_any_rate(identity: Denoiser, rate: int) -> None:
    stream, time = identity.stream(rate), np.arange(rate // 2) / rate
    assert stream.latency_s == pytest.approx(0.032 if rate == 16000 else 0.042, abs=5e-4)
    wave = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[:, None]
    draw, pieces, start, behind = np.random.default_rng(0), [], 0, 0
    while start < len(wave):
        size = int(draw.integers(1, rate // 1000))
        pieces.append(stream.push(wave[start : start + size]))
        start += size
        behind = max(behind, min(start, len(wave)) - sum(len(piece) for piece in pieces))
    assert behind <= stream.latency_s * rate
    streamed = np.concatenate([*pieces, stream.flush()])
    again = np.concatenate([stream.push(wave), stream.flush()])
    np.testing.assert_allclose(streamed, again, atol=1e-5)
    middle = slice(rate // 20, -rate // 20)  # aligned to the sample
    np.testing.assert_allclose(streamed[middle], wave[middle], atol=1e-3)


def test_two_streams_of_one_model_do_not_mix() -> None:
    generator = randomised(SMALL["causal"])
    waves = [speech_like(i, 2.0).astype(np.float32)[:, None] for i in range(2)]
    assert streams(generator)
    both = [streaming.Stream(generator, 1, 16000) for _ in waves]
    heard: list[list[np.ndarray]] = [[], []]
    for start in range(0, 32000, 700):
        for wave, stream, pieces in zip(waves, both, heard, strict=True):
            pieces.append(stream.push(wave[start : start + 700]))
    for wave, stream, pieces in zip(waves, both, heard, strict=True):
        streamed = np.concatenate([*pieces, stream.flush()])
        np.testing.assert_allclose(streamed, whole(generator, wave), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 511, 513])
def test_the_tail_of_a_short_stream_comes_out(length: int) -> None:
    generator, wave = randomised(SMALL["causal"]), speech_like(0).astype(np.float32)[:length, None]
    assert streams(generator)
    stream = streaming.Stream(generator, 1, 16000)
    streamed = np.concatenate([stream.push(wave), stream.flush()])
    np.testing.assert_allclose(streamed, whole(generator, wave), rtol=0.0, atol=1e-5)
    assert stream.flush().shape == (0, 1)


def test_a_causal_generator_states_its_latency() -> None:
    boxed, plain = gan_denoise.load("live").generator, randomised(SMALL["causal"])
    assert streams(boxed) and streams(plain) and boxed.latency == plain.latency <= 512
    for generator in (boxed, plain, randomised(SMALL["bands"])):
        assert streams(generator)
        wave = speech_like(0, 2.0).astype(np.float32)[:, None]
        expected = whole(generator, wave)
        for t in (1, 300, 8000, 16001):
            changed = wave.copy()
            changed[t + generator.latency :] = (
                0.3 * speech_like(1, 2.0)[t + generator.latency :, None]
            )
            # Bit for bit
            np.testing.assert_array_equal(whole(generator, changed)[: t + 1], expected[: t + 1])
        stream = streaming.Stream(generator, 1, 16000)
        said = [len(stream.push(wave[i : i + 1])) for i in range(4000)]
        # So many wait at most
        assert np.max(np.arange(1, 4001) - np.cumsum(said)) == generator.latency - 1


def test_a_stream_refuses_nan_and_recovers() -> None:
    generator, wave = randomised(SMALL["causal"]), speech_like(0).astype(np.float32)[:, None]
    stream = Denoiser(generator, 16000).stream()
    stream.push(wave[:1000])
    with pytest.raises(InputError, match="NaN"):
        stream.push(np.full((10, 1), np.nan, dtype=np.float32))
    streamed = np.concatenate([stream.push(wave[1000:]), stream.flush()])
    assert np.isfinite(streamed).all()


def stream(
    model_dir: Path, samples: bytes, *options: Any
) -> tuple[np.ndarray, subprocess.CompletedProcess]:
    command = ["gan-denoise", "stream", "--model", str(model_dir), *map(str, options), "-", "-"]
    result = subprocess.run(command, input=samples, capture_output=True, timeout=120)
    return np.frombuffer(result.stdout, dtype="<i2"), result


def stream_here(model_dir: Path, samples: bytes, folder: Path) -> tuple[np.ndarray, str]:
    """The same in this process, from file to file: what came out, and what was told."""
    (folder / "in").write_bytes(samples)
    told: list[str] = []
    with (folder / "in").open("rb") as source, (folder / "out").open("wb") as target:
        denoiser = gan_denoise.load(model_dir)
        assert not live(denoiser, 16000, source.fileno(), target.fileno(), told.append)
    return np.frombuffer((folder / "out").read_bytes(), dtype="<i2"), "\n".join(told)


def test_stream_from_pipe_to_pipe(model_dir: Path, tmp_path: Path) -> None:
    samples = np.rint(speech_like(0, 2.0) * 32767).astype("<i2")
    streamed, result = stream(model_dir, samples.tobytes())
    assert result.returncode == 0, result.stderr
    expected = gan_denoise.load(model_dir)(samples / 32768, 16000) * 32768
    np.testing.assert_allclose(streamed, expected, atol=0.51)
    for words in (
        b"2.00 s",
        b"real-time factor 0.",
        b"worst chunk",
        b"latency 512 samples at 16000 Hz (32 ms)",
    ):
        assert words in result.stderr
    resampled, result = stream(model_dir, samples.tobytes(), "--sample-rate", 44100)
    assert len(resampled) == len(samples) and b"with resampling" in result.stderr
    odd, told = stream_here(model_dir, samples[:1000].tobytes() + b"\x01", tmp_path)
    assert len(odd) == 1000 and "its last byte is left out" in told
    silence, _ = stream_here(model_dir, bytes(20000), tmp_path)
    assert len(silence) == 10000 and not silence.any()
    nothing, _ = stream_here(model_dir, b"", tmp_path)
    assert len(nothing) == 0


def test_stream_survives_a_closed_pipe(model_dir: Path) -> None:
    command = (
        f"head -c 2000000 /dev/zero | gan-denoise stream --model {model_dir} - - | head -c 1000 |"
        " wc -c; echo ${PIPESTATUS[1]}"
    )
    result = run("bash", "-c", command)
    assert result.stdout.split() == ["1000", "141"] and "Traceback" not in result.stderr
    assert "real-time factor" in result.stderr


def test_stream_wants_a_model_that_streams(tmp_path: Path) -> None:
    other = save(tmp_path / "model", SMALL["convnext"], randomised(SMALL["convnext"]))
    result = stream(other, bytes(1000))[1]
    assert (
        result.returncode == 1
        and result.stderr.count(b"\n") == 1
        and b"cannot stream" in result.stderr
    )
