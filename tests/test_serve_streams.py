"""gan-denoise serve and live streams: equal to enhance, their strength, limits, broken frames."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

import gan_denoise
from conftest import speech_like, write
from gan_denoise import audio
from gan_denoise.enhance import Denoiser
from gan_denoise.serve import batching, busy
from service_here import LIMITS, STREAM, talk


def test_twenty_streams_equal_enhance_whatever_their_company() -> None:
    """Streams of different lengths, in pieces of random sizes, at once and one after the other.

    A third of them is cut off midway.
    """

    async def talk(batch: Any, number: int, wave: np.ndarray) -> Any:
        draw, pieces, at = np.random.default_rng(number), [], 0
        stream = batching.LiveStream(batch, 16000)
        cut = number % 3 == 0
        try:
            while at < len(wave):
                size = int(draw.choice([1, 100, 256, 320, 4000]))
                pieces.append(await stream.push(wave[at : at + size]))
                at += size
                if cut and at > len(wave) // 2:
                    return np.concatenate(pieces)
                if draw.random() < 0.3:
                    await asyncio.sleep(0.003 * draw.random())
            return np.concatenate([*pieces, await stream.flush()])
        finally:
            stream.close()

    async def all_of_them() -> Any:
        batch = batching.Batch(denoiser, 15)
        first = await asyncio.gather(*(talk(batch, number, waves[number]) for number in range(15)))
        assert len(batch._free) == 15  # seats are taken again by the next ones
        return first + await asyncio.gather(
            *(talk(batch, number, waves[number]) for number in range(15, 20))
        )

    denoiser, lengths = gan_denoise.load("live"), np.random.default_rng(0).integers(1, 24000, 20)
    waves = [
        speech_like(number, 2.0)[:length].astype(np.float32)
        for number, length in enumerate(lengths)
    ]
    for number, got in enumerate(asyncio.run(all_of_them())):
        expected = denoiser(waves[number], 16000)
        if number % 3:
            assert len(got) == len(expected)
        np.testing.assert_allclose(got, expected[: len(got)], rtol=0.0, atol=1e-5)


def test_a_step_that_fails_is_told_to_those_who_wait(
    denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> Any:
        batch = batching.Batch(denoiser, 2)
        streams = [batching.LiveStream(batch, 16000) for _ in range(2)]
        hops = np.zeros(2 * batch.hop, dtype=np.float32)
        with monkeypatch.context() as patch:
            patch.setattr(denoiser.generator, "step", lambda *_: 1 / 0)
            failed = await asyncio.gather(*(s.push(hops) for s in streams), return_exceptions=True)
        return failed, await asyncio.gather(*(stream.push(hops) for stream in streams))

    failed, after = asyncio.run(scene())
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2
    assert [len(samples) for samples in after] == [256, 256]


def test_a_stream_over_the_websocket(served: TestClient, denoiser: Denoiser) -> None:
    wave = speech_like(0, 1.0).astype(np.float32)
    expected = denoiser(wave, 16000)
    hello, content = talk(served, wave, "?format=f32le")
    assert hello == {
        "model": "small",
        "sample_rate": 16000,
        "format": "f32le",
        "hop_length": 256,
        "latency": 512,
        "strength": None,
    }
    np.testing.assert_allclose(np.frombuffer(content, "<f4"), expected, rtol=0.0, atol=1e-5)
    pcm = np.rint(32768 * wave).astype("<i2")
    hello, content = talk(served, pcm)
    assert hello["format"] == "s16le"
    expected = denoiser(pcm / 32768, 16000)
    np.testing.assert_allclose(np.frombuffer(content, "<i2") / 32768, expected, rtol=0.0, atol=3e-5)


def test_a_strength_over_http(served: TestClient, told_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", speech_like(0), subtype="FLOAT")
    noisy, told = audio.read_mono(path)[0], Denoiser.load(told_dir)
    for query, strength in (({}, 0.5), ({"strength": 1.0}, 1.0)):
        answer = served.post(
            "/v1/enhance", content=path.read_bytes(), params={"model": "told", **query}
        )
        assert answer.status_code == 200
        (tmp_path / "b.wav").write_bytes(answer.content)
        heard, expected = (
            audio.read_mono(tmp_path / "b.wav")[0],
            told(noisy, 16000, strength=strength),
        )
        np.testing.assert_allclose(heard, expected, rtol=0.0, atol=1e-6)
    answer = served.post("/v1/enhance", content=path.read_bytes(), params={"strength": 0.5})
    assert answer.status_code == 422 and "this model takes none" in answer.json()["error"]
    answer = served.post(
        "/v1/enhance", content=path.read_bytes(), params={"model": "told", "strength": 1.5}
    )
    assert answer.status_code == 422 and "strength" in answer.json()["error"]
    takes = {model["name"]: model["takes_strength"] for model in served.get("/v1/models").json()}
    assert takes == {"small": False, "whole": False, "told": True}


def test_a_strength_over_the_websocket(served: TestClient, told_dir: Path) -> None:
    wave, query = speech_like(0, 1.0).astype(np.float32), "?format=f32le&model=told"
    stage = Denoiser.load(told_dir).stream(strength="gentle")
    hello, content = talk(served, wave, f"{query}&strength=0")
    assert hello["strength"] == 0.0
    expected = np.concatenate([stage.push(wave[:, None]), stage.flush()])[:, 0]
    np.testing.assert_allclose(np.frombuffer(content, "<f4"), expected, rtol=0.0, atol=1e-5)
    pieces, parts = [], [stage.push(wave[:8000, None])]
    with served.websocket_connect(f"{STREAM}{query}&strength=0") as socket:
        socket.receive_json()
        for part in (wave[:8000], wave[8000:]):
            socket.send_bytes(part.tobytes())
            pieces.append(np.frombuffer(socket.receive_bytes(), "<f4"))
            socket.send_text("strength 1")
        stage.strength = 1.0
        parts.append(stage.push(wave[8000:, None]))
        socket.send_text("strength much")
        assert "strength: expected" in socket.receive_json()["error"]
    expected = np.concatenate(parts)[:, 0]
    np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_stream_at_another_rate_keeps_its_length_and_says_how_late_it_is(
    served: TestClient, denoiser: Denoiser, rate: int
) -> None:
    wave = speech_like(0, 1.0, rate)[: rate - 7].astype(np.float32)
    hello, content = talk(served, wave, f"?format=f32le&sample_rate={rate}", size=4 * (rate // 50))
    got, stage = np.frombuffer(content, "<f4"), denoiser.stream(rate)
    expected = np.concatenate([stage.push(wave[:, None]), stage.flush()])[: len(wave), 0]
    assert len(got) == len(wave) and 512 * rate / 16000 < hello["latency"] < 0.5 * rate
    np.testing.assert_allclose(got[: len(expected)], expected, rtol=0.0, atol=1e-4)


def test_more_streams_than_allowed_are_refused_and_the_others_go_on(served: TestClient) -> None:
    silence = bytes(640)
    sockets = [served.websocket_connect(STREAM) for _ in range(LIMITS.max_streams)]
    try:
        for socket in sockets:
            socket.__enter__().receive_json()
        with pytest.raises(WebSocketDenialResponse) as refused, served.websocket_connect(STREAM):
            pass
        assert refused.value.status_code == 503
        assert "gan_denoise_streams_open 20.0" in served.get("/metrics").text
        for socket in sockets:
            socket.send_bytes(silence)
        for socket in sockets:
            assert len(socket.receive_bytes()) == 512 - 512  # the first hop is still on its way
    finally:
        for socket in sockets:
            socket.__exit__(None, None, None)
    talk(served, np.zeros(100, "<i2"))


def test_a_busy_server_takes_no_further_stream(
    served: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(busy, "_wanted_s", lambda: 10.0 * time.monotonic())  # ten cores' worth
    time.sleep(1.1)
    with pytest.raises(WebSocketDenialResponse) as refused, served.websocket_connect(STREAM):
        pass
    assert refused.value.status_code == 503
    assert refused.value.json() == {"error": "this machine is busy: try again in a while"}
    monkeypatch.undo()
    time.sleep(1.1)
    talk(served, np.zeros(100, "<i2"))


def test_how_busy_a_loop_is() -> None:
    """Whether it runs, or waits for a core that others have."""

    async def scene() -> Any:
        watched = busy.Busy()
        async with watched.watching():
            ends = time.monotonic() + 1.1
            while time.monotonic() < ends:
                await asyncio.sleep(0)
            full = watched.share
            async with asyncio.timeout(30.0):  # whoever sleeps waits for a core now and then
                while watched.share > 0.5:
                    await asyncio.sleep(0.1)
            return full

    assert 0.6 < asyncio.run(scene()) < 1.1


def test_an_idle_stream_ends_with_a_word(served: TestClient) -> None:
    with served.websocket_connect(STREAM) as socket:
        socket.receive_json()
        assert socket.receive_json() == {"error": "nothing moved for 1 s"}
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
        assert closed.value.code == 1008


@pytest.mark.parametrize(
    "query, status",
    [
        ("?format=mp3", 422),
        ("?sample_rate=0", 422),
        ("?sample_rate=x", 422),
        ("?model=none", 422),
        ("?model=whole", 422),
    ],
)
def test_a_stream_that_cannot_be_is_refused_with_a_reason(
    served: TestClient, query: str, status: int
) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        served.websocket_connect(f"{STREAM}{query}"),
    ):
        pass
    assert refused.value.status_code == status and refused.value.json()["error"]


@pytest.mark.parametrize(
    "send, code",
    [
        (b"\x00", 1007),
        (np.array([np.nan], "<f4").tobytes(), 1007),
        (np.array([np.inf], "<f4").tobytes(), 1007),
        ("hello", 1003),
        ('{"type": "end"}', 1003),
    ],
)
def test_a_broken_frame_ends_its_stream_alone(served: TestClient, send: Any, code: int) -> None:
    with (
        served.websocket_connect(f"{STREAM}?format=f32le") as other,
        served.websocket_connect(f"{STREAM}?format=f32le") as socket,
    ):
        other.receive_json(), socket.receive_json()
        (socket.send_text if isinstance(send, str) else socket.send_bytes)(send)
        assert "error" in socket.receive_json()
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
        assert closed.value.code == code
        other.send_bytes(bytes(4 * 600))
        assert len(other.receive_bytes()) == 4 * 256
