"""The Python API with what callers hand in: it works, or answers in one clear line.

Threads and other processes call it too.
"""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from multiprocessing.context import ForkContext, SpawnContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gan_denoise
from conftest import speech_like, write
from gan_denoise import audio
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError

WAVE = speech_like(0, 0.5)


@pytest.fixture(scope="module")
def denoise() -> Denoiser:
    return gan_denoise.load()


@pytest.fixture(scope="module")
def expected(denoise: Denoiser) -> np.ndarray:
    return denoise(WAVE, 16000)


@pytest.fixture(scope="module")
def expected_live() -> np.ndarray:
    return gan_denoise.load("live")(WAVE, 16000)


SIXTEEN = np.rint(WAVE * 2**15) / 2**15
HALF = torch.from_numpy(WAVE).half()
BRAIN = torch.from_numpy(WAVE).bfloat16()


@pytest.mark.parametrize(
    ("wave", "meant"),
    [
        (WAVE.astype(np.float32), WAVE),
        (HALF.numpy(), HALF.double().numpy()),
        (WAVE.astype(np.longdouble), WAVE),
        (WAVE.astype(">f4"), WAVE),
        (WAVE.astype(">f8"), WAVE),
        ((SIXTEEN * 2**15).astype(np.int16), SIXTEEN),
        ((SIXTEEN * 2**15).astype(">i2"), SIXTEEN),
        ((SIXTEEN * 2**31).astype(np.int32), SIXTEEN),
        (np.rint(WAVE * 128).astype(np.int8), np.rint(WAVE * 128) / 128),
        (np.rint(WAVE * 128 + 128).astype(np.uint8), np.rint(WAVE * 128) / 128),
        (np.repeat(WAVE, 2)[::2], WAVE),
        (WAVE[::-1][::-1], WAVE),
        (np.asfortranarray(np.stack([WAVE, WAVE], axis=1)), WAVE),
        (list(WAVE), WAVE),
        (tuple(WAVE), WAVE),
        (torch.from_numpy(WAVE), WAVE),
        (torch.from_numpy(WAVE).requires_grad_(), WAVE),
        (BRAIN, BRAIN.double().numpy()),
        (HALF, HALF.double().numpy()),
        (torch.from_numpy((SIXTEEN * 2**15).astype(np.int16)), SIXTEEN),
        (WAVE[:, None], WAVE),
    ],
    ids=lambda value: f"{type(value).__name__}-{value.dtype}" if hasattr(value, "dtype") else None,
)
def test_any_array_of_samples_is_right(denoise: Denoiser, wave: Any, meant: Any) -> None:
    enhanced = denoise(wave, 16000)
    assert enhanced.dtype == np.float32 and enhanced.shape == np.shape(wave)
    np.testing.assert_allclose(
        enhanced.reshape(len(WAVE), -1)[:, 0], denoise(meant, 16000), atol=1e-6
    )


@pytest.mark.parametrize(
    ("wave", "words"),
    [
        (WAVE[None], r"\(T,\) or \(T, channels\), found \(1, 8000\): transpose"),
        (torch.from_numpy(WAVE)[None], r"found \(1, 8000\): transpose"),
        (np.stack([WAVE, WAVE]), r"found \(2, 8000\): transpose"),
        (np.zeros((3000, 2000)), "transpose"),
        (np.zeros((1, 1, 100)), r"found \(1, 1, 100\)"),
        (np.zeros(0), r"T >= 1, found \(0,\)"),
        (np.zeros((0, 2)), "T >= 1"),
        (np.zeros((5, 0)), "T >= 1"),
        (0.5, r"found \(\)"),
        (None, "samples of type object"),
        ("noisy.wav", "samples of type"),
        (b"\x00\x01", "samples of type"),
        (bytearray(100), "samples of type bytearray"),
        (np.array([0.1, None]), "samples of type object"),
        (WAVE > 0, "samples of type bool: expected floats of full scale 1.0"),
        (np.zeros(9, dtype=np.int64), "samples of type int64"),
        (np.zeros(9, dtype=np.uint16), "samples of type uint16"),
        (np.zeros(9, dtype=complex), "samples of type complex128"),
        (np.zeros(9, dtype="M8[s]"), "samples of type datetime64"),
        ([[0.1, 0.2], [0.1]], "not an array of samples"),
        ({"wave": WAVE}, "samples of type object"),
        (np.ma.masked_array(WAVE, WAVE > 0), "masked"),
        (np.where(WAVE > 0.05, np.nan, WAVE), "NaN or infinite"),
        (WAVE * 1e60, "NaN or infinite"),
        (torch.full((9,), torch.inf), "NaN or infinite"),
        (torch.from_numpy(WAVE).to_sparse(), "a tensor .*sparse.*: make it a plain one"),
        (torch.zeros(9, device="meta"), "a tensor .*: make it a plain one"),
        (torch.zeros(9, dtype=torch.complex64).conj(), "samples of type complex64"),
        (
            WAVE / np.abs(WAVE).max() * 1e15,
            "the wave: holds samples of up to 1e\\+15, 1e\\+06 at most are read: scale",
        ),
    ],
    ids=str,
)
def test_what_is_no_signal_is_refused(denoise: Denoiser, wave: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        denoise(wave, 16000)


@pytest.mark.parametrize(
    "rate", [16000.0, np.int16(16000), np.float64(16000), np.array(16000), torch.tensor(16000)]
)
def test_any_whole_number_is_a_rate(denoise: Denoiser, expected: np.ndarray, rate: Any) -> None:
    np.testing.assert_array_equal(denoise(WAVE, rate), expected)


@pytest.mark.parametrize(
    "rate", [0, -16000, 44100.5, "16000", None, np.nan, np.inf, True, 1, 10**9, [16000], 1j]
)
def test_what_is_no_rate_is_refused(denoise: Denoiser, rate: Any) -> None:
    with pytest.raises(InputError, match="sample_rate: expected a whole number of Hz"):
        denoise(WAVE, rate)
    if rate is not None:
        with pytest.raises(InputError, match="sample_rate"):
            denoise.stream(rate)


@pytest.mark.parametrize("share", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_any_number_is_a_mix(denoise: Denoiser, share: Any) -> None:
    half = denoise(WAVE, 16000, mix=share)
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half, denoise(WAVE, 16000, mix=0.5))
    stream = denoise.stream(16000, mix=share)
    assert len(np.concatenate([stream.push(WAVE[:, None]), stream.flush()])) == len(WAVE)


@pytest.mark.parametrize(
    "options",
    [{"mix": 2}, {"mix": -1}, {"mix": np.nan}, {"mix": "0.5"}, {"mix": None}, {"mix": True}],
)
def test_a_mix_is_a_share(denoise: Denoiser, options: Any) -> None:
    with pytest.raises(InputError, match="mix: expected a number from 0 .* to 1"):
        denoise(WAVE, 16000, **options)


def test_wrong_words_are_refused(denoise: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r'high_band: unknown value \'kep\' \(did you mean "keep"\?\)'
    ):
        denoise(WAVE, 16000, high_band="kep")
    for model in ("", tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="model"):
            gan_denoise.load(model)
    others: tuple[Any, ...] = (0, ["files"], b"files", True, 1.5)
    for other in others:
        with pytest.raises(InputError, match="model .*: expected a model directory or a name"):
            gan_denoise.load(other)
    devices: tuple[Any, ...] = ("cuda:99", "meta", "gpu", "", None, 0, b"cpu", ["cpu"])
    for device in devices:
        with pytest.raises(InputError, match="device"):
            gan_denoise.load(device=device)
    gan_denoise.load("live", device=torch.device("cpu"))  # type: ignore[arg-type]
    no_channels: tuple[Any, ...] = (0, -1, 1.0, True, "2", 5000)
    for channels in no_channels:
        with pytest.raises(InputError, match="channels: expected a whole number from 1 to 1024"):
            denoise.stream(16000, channels)


def test_a_loud_input_is_blamed_and_not_the_model(denoise: Denoiser, tmp_path: Path) -> None:
    loud = (WAVE / np.abs(WAVE).max() * 1e15).astype(np.float32)
    words = r"holds samples of up to 1e\+15, 1e\+06 at most are read: scale them to full scale 1.0"
    path = write(tmp_path / "loud.wav", loud, subtype="FLOAT")
    with pytest.raises(InputError, match=rf"loud\.wav: {words}"):
        enhance_file(denoise, path, tmp_path / "out.wav")
    with pytest.raises(InputError, match=f"the stream: {words}"):
        denoise.stream(16000).push(loud[:, None])
    assert np.isfinite(denoise(loud / 1e9, 16000)).all()


def test_no_shape_reaches_the_resampler_that_it_cannot_take() -> None:
    with pytest.raises(InputError, match="transpose"):
        audio.resample(np.zeros((1, 48000)), 48000, 16000)
    assert audio.resample(np.zeros((100, 1024)), 48000, 16000).shape == (34, 1024)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_as_many_samples_leave_a_stream_as_entered_it(
    denoise: Denoiser, rate: int, dtype: Any
) -> None:
    draw = np.random.default_rng(0)
    stream = denoise.stream(rate, 2)
    for length in (3000, 1, 4410):  # the same stream anew
        wave = np.stack([speech_like(i, length / rate, rate) for i in range(2)], axis=1)
        wave = np.rint(wave * 32768).astype(dtype) if dtype == np.int16 else wave.astype(dtype)
        pieces, start = [], 0
        while start < length:
            size = int(draw.integers(0, 700))
            pieces.append(stream.push(wave[start : start + size]))
            start += size
            assert sum(map(len, pieces)) <= start
        streamed = np.concatenate([*pieces, stream.flush()])
        assert streamed.shape == (length, 2) and streamed.dtype == np.float32


def test_a_stream_refuses_other_shapes_and_stays_as_it_was(denoise: Denoiser) -> None:
    plain, tried = denoise.stream(44100), denoise.stream(44100)
    wave = speech_like(0, 0.3, 44100)[:, None]
    expected = np.concatenate([plain.push(wave), plain.flush()])
    first = tried.push(wave[:5000])
    for wrong in (wave.T, wave[:, 0], np.zeros((5, 2)), np.full((5, 1), np.nan), wave > 0, None):
        with pytest.raises(InputError):
            tried.push(wrong)
    np.testing.assert_allclose(
        np.concatenate([first, tried.push(wave[5000:]), tried.flush()]), expected, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_type_does_not_matter(expected: np.ndarray, dtype: Any) -> None:
    torch.set_default_dtype(dtype)
    try:
        denoise = gan_denoise.load()
        np.testing.assert_array_equal(denoise(WAVE, 16000), expected)
        stream = denoise.stream()
        streamed = np.concatenate([stream.push(WAVE[:, None]), stream.flush()])[:, 0]
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(streamed, gan_denoise.load("live")(WAVE, 16000), atol=1e-5)


def test_several_threads_at_once(denoise: Denoiser, expected: np.ndarray) -> None:
    with ThreadPoolExecutor(8) as pool:
        for enhanced in pool.map(lambda _: denoise(WAVE, 16000), range(16)):
            np.testing.assert_array_equal(enhanced, expected)


def _in_a_child(queue: Any, denoise: Any) -> None:
    denoise = denoise or gan_denoise.load()
    queue.put((denoise(WAVE, 16000), live(denoise)))


def live(denoise: Any) -> np.ndarray:
    stream = denoise.stream()
    return np.concatenate([stream.push(WAVE[:, None]), stream.flush()])[:, 0]


def test_a_copy_streams_too(denoise: Denoiser) -> None:
    stream = live(denoise)
    for copied in (copy.deepcopy(denoise), pickle.loads(pickle.dumps(denoise))):
        np.testing.assert_array_equal(live(copied), stream)


def test_a_fork_while_others_stream(denoise: Denoiser, expected_live: np.ndarray) -> None:
    """A session's lock may be held by a thread that the child does not have."""
    ended = threading.Event()
    live(denoise)  # opens the graph

    def stream() -> None:
        another, hop = denoise.stream(), np.zeros((denoise.live_generator.hop_length, 1))
        while not ended.is_set():
            another.push(hop)

    threads = [threading.Thread(target=stream) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        children = [
            context.Process(target=_in_a_child, args=(queue, denoise), daemon=True)
            for _ in range(8)
        ]
        for child in children:
            child.start()
        for _ in children:
            np.testing.assert_allclose(queue.get(timeout=120)[1], expected_live, atol=1e-6)
        for child in children:
            child.join()
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_child_processes(
    denoise: Denoiser, expected: np.ndarray, expected_live: np.ndarray, method: str
) -> None:
    """A child that is forked after the parent's threads have worked must not wait for them.

    It does not have these threads, and would wait for ever.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        denoise(np.tile(WAVE, 2), 16000)
        live(denoise)
        fork, spawn = multiprocessing.get_context("fork"), multiprocessing.get_context("spawn")
        context: ForkContext | SpawnContext = fork if method == "fork" else spawn
        queue = context.Queue()
        child = context.Process(
            target=_in_a_child, args=(queue, denoise if method == "fork" else None)
        )
        child.start()
        for enhanced, target in zip(queue.get(timeout=120), (expected, expected_live), strict=True):
            np.testing.assert_allclose(enhanced, target, atol=1e-6)
        child.join()
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(threads)
