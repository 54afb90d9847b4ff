"""gan-denoise serve, in process: files, live streams, limits, what is malformed, who may ask."""

from __future__ import annotations

import asyncio
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import soundfile as sf
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import gan_denoise
from conftest import cli, one_error_line, run, speech_like, write
from gan_denoise import audio
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.serve import batching, busy, files, live, uploads
from gan_denoise.serve.app import create_app
from gan_denoise.serve.limits import Limits
from test_enhance import randomised
from test_models import SMALL, save

LIMITS = Limits(
    max_upload_mb=8, max_duration=60, max_streams=20, max_files=3, idle_timeout=1, max_load=999
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A small streaming model with random weights."""
    folder = tmp_path_factory.mktemp("serve") / "model"
    return save(folder, SMALL["causal"], randomised(SMALL["causal"]))


@pytest.fixture(scope="module")
def denoiser(model_dir):
    return Denoiser.load(model_dir)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """TMPDIR of the service."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def told_dir(tmp_path_factory):
    """A model that is told a strength."""
    options = SMALL["bands"] | {"strength": True}
    return save(tmp_path_factory.mktemp("told") / "model", options, randomised(options))


@pytest.fixture(scope="module")
def served(model_dir, told_dir, temporary, tmp_path_factory):
    """A client of the service: a streaming model, one that is not, and one told a strength."""
    whole = save(
        tmp_path_factory.mktemp("whole") / "model", SMALL["convnext"], randomised(SMALL["convnext"])
    )
    models = {"small": model_dir, "whole": whole, "told": told_dir}
    app = create_app(models, limits=LIMITS, allowed=frozenset({"denoise.example"}))
    with client(app) as opened:
        yield opened


STREAM = "ws://127.0.0.1:8000/v1/stream"


def client(app) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def wave_file(path, seconds=1.0, rate=16000, channels=1, **options):
    wave = np.stack([speech_like(seed, seconds, rate) for seed in range(channels)], axis=1)
    return write(path, wave, rate, **options)


# Files


@pytest.mark.parametrize(
    "name, rate, channels, query",
    [
        ("a.wav", 16000, 1, {}),
        ("a.flac", 48000, 2, {"mix": 0.5, "high_band": "keep"}),
        ("a.ogg", 8000, 1, {"model": "whole"}),
    ],
)
@pytest.mark.parametrize("as_form", [True, False])
def test_a_file_comes_back_as_enhance_writes_it(
    served, model_dir, tmp_path, name, rate, channels, query, as_form
):
    source = wave_file(tmp_path / name, 1.0, rate, channels)
    if as_form:
        answer = served.post(
            "/v1/enhance", params=query, files={"file": (name, source.read_bytes())}
        )
    else:
        answer = served.post(
            "/v1/enhance", params={**query, "name": name}, content=source.read_bytes()
        )
    assert answer.status_code == 200, answer.text
    folder = model_dir if "model" not in query else None
    got, got_rate = sf.read(io.BytesIO(answer.content), always_2d=True)
    assert got_rate == rate == int(answer.headers["x-sample-rate"])
    assert got.shape == (rate, channels) and int(answer.headers["x-frames"]) == rate
    assert f"a_enhanced{source.suffix}" in answer.headers["content-disposition"]
    assert (
        answer.headers["content-type"]
        == {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg"}[source.suffix]
    )
    if folder:
        options = {key: query[key] for key in ("mix", "high_band") if key in query}
        enhance_file(
            Denoiser.load(folder), source, tmp_path / f"expected{source.suffix}", **options
        )
        assert answer.content == (tmp_path / f"expected{source.suffix}").read_bytes()


def test_several_files_at_once_and_nothing_stays(served, temporary, tmp_path):
    content = wave_file(tmp_path / "a.wav", 2.0).read_bytes()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: served.post("/v1/enhance", content=content), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.content for answer in answers}) == 1
    assert left_of(temporary) == []


def left_of(folder):
    """Files that the service left."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def post(app, pieces, query=b""):
    """POST /v1/enhance with a body that comes as `pieces` does: (status, headers, content)."""
    sent, headers, ended = [], [(b"host", b"127.0.0.1")], False

    async def receive():
        nonlocal ended
        async for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        if ended:
            await asyncio.sleep(60)
        ended = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/enhance",
        "query_string": query,
        "headers": headers,
    }
    await app(
        scope | {"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}, receive, send
    )
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content


def test_more_files_than_allowed_are_refused_and_progress_is_told(served, tmp_path):
    content, key = (
        wave_file(tmp_path / "a.wav").read_bytes(),
        "00000000-0000-0000-0000-000000000001",
    )
    told = f"/v1/progress/{key}"

    release, refusals = asyncio.Event(), threading.Event()

    async def scene():
        async def slow():
            yield content[:1000]
            await release.wait()
            yield content[1000:]

        held = [asyncio.ensure_future(post(served.app, slow(), b"id=" + key.encode()))]
        held += [asyncio.ensure_future(post(served.app, slow())) for _ in range(2)]
        await asyncio.sleep(0.1)
        refused = await post(served.app, slow())
        again = await post(served.app, slow(), b"id=" + key.encode())
        refusals.set()
        return refused, again, [status for status, *_ in await asyncio.gather(*held)]

    with ThreadPoolExecutor(1) as pool:
        playing = pool.submit(served.portal.call, scene)
        assert refusals.wait(60)
        assert served.get(told).json() == {"state": "receiving", "share": 0.0}
        served.portal.call(release.set)
        refused, again, held = playing.result()
    assert held == [200] * 3
    assert refused[0] == again[0] == 429 and refused[1][b"retry-after"] == b"5"
    assert served.get(told).status_code == 404


def test_uploads_need_constant_memory(tmp_path):
    pieces, piece = 64, bytes(2**20)

    async def receive():
        nonlocal pieces
        pieces -= 1
        return {"type": "http.request", "body": piece, "more_body": pieces > 0}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    tracemalloc.start()
    limit = 100 * 2**20
    upload = asyncio.run(uploads.receive(request, tmp_path / "upload", name="x", limit=limit))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert upload.size == 64 * 2**20 and peak < 8 * 2**20


# What heals


def workers_of(process) -> list[psutil.Process]:
    """Those that work on files: the forkserver's children."""
    return [worker for server in process.children() for worker in server.children()]


def kill(processes) -> None:
    for process in processes:
        process.kill()


def test_files_are_worked_on_again_when_their_processes_died(served):
    expected = served.post("/v1/enhance", content=a_wav(seconds=0.5)).content
    for _ in range(2):
        kill(workers_of(psutil.Process()))
        answer = served.post("/v1/enhance", content=a_wav(seconds=0.5))
        assert (answer.status_code, answer.content) == (200, expected), answer.text
    text = served.get("/metrics").text
    assert re.search(r"worker_restarts [1-9]", text), text


def test_a_file_whose_process_is_killed_is_worked_on_again(served):
    key, content = uuid.uuid4(), a_wav(seconds=50.0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.post, f"/v1/enhance?id={key}", content=content)
        told = {}
        while told.get(str(key), {}).get("state") != "enhancing":
            assert not asked.done()
            told = served.get(f"/v1/progress?id={key}&id={uuid.uuid4()}").json()
        assert set(told) == {str(key)}
        kill(workers_of(psutil.Process()))
        assert asked.result().status_code == 200


def test_progress_can_be_asked_at_any_moment(tmp_path):
    files.tell_progress(tmp_path, 0.0)
    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(
            lambda: [files.tell_progress(tmp_path, share) for share in np.linspace(0.0, 1.0, 100)]
        )
        while not telling.done():
            assert files.progress(tmp_path) is not None
    assert files.progress(tmp_path) == 1.0


def test_health_tells_while_files_cannot_be_worked_on(served, temporary):
    assert served.get("/healthz").status_code == 200
    assert "gan_denoise_files_ready 1.0" in served.get("/metrics").text
    home = next(temporary.glob("gan_denoise-serve-*"))
    home.rename(temporary / "away")
    home.write_text("a file of this name")
    try:
        for answer in (served.get("/healthz"), served.post("/v1/enhance", content=a_wav())):
            assert answer.status_code == 503 and "cannot store" in answer.json()["error"]
        assert "gan_denoise_files_ready 0.0" in served.get("/metrics").text
        talk(served, np.zeros(100, "<i2"))  # live streams go on
    finally:
        home.unlink()
    assert served.get("/healthz").status_code == 200
    assert served.post("/v1/enhance", content=a_wav()).status_code == 200


def test_a_folder_that_was_cleaned_away_is_made_again(served, temporary):
    for folder in temporary.glob("gan_denoise-serve-*"):
        shutil.rmtree(folder)
    assert served.post("/v1/enhance", content=a_wav()).status_code == 200
    assert left_of(temporary) == []


def test_processes_start_though_their_servers_socket_was_cleaned_away():
    code = (
        "import multiprocessing.util, os, shutil; from gan_denoise import workers\n"
        "for _ in range(2):\n"
        "    process = workers.forkserver(imports_program=False).Process(target=os.getpid)\n"
        "    process.start(); process.join(); print(process.exitcode)\n"
        "    shutil.rmtree(multiprocessing.util.get_temp_dir())"
    )
    result = run("python", "-c", code)
    assert (result.stdout, result.stderr) == ("0\n0\n", "")


def test_a_model_stays_what_it_was_when_its_folder_changes(served, model_dir, tmp_path):
    """Its processes begin again, as after a file that somebody cancels."""
    content = a_wav(seconds=0.5)
    expected = served.post("/v1/enhance", content=content).content
    shutil.copytree(model_dir, tmp_path / "kept")
    try:
        save(model_dir, SMALL["causal"], randomised(SMALL["causal"], 1))
        kill(workers_of(psutil.Process()))
        assert served.post("/v1/enhance", content=content).content == expected
        shutil.rmtree(model_dir)
        kill(workers_of(psutil.Process()))
        assert served.post("/v1/enhance", content=content).content == expected
    finally:
        shutil.copytree(tmp_path / "kept", model_dir, dirs_exist_ok=True)


# Live streams


def test_twenty_streams_equal_enhance_whatever_their_company():
    """Different lengths, pieces of random sizes, a third cut off midway, one after the other and at
    once.
    """

    async def talk(batch, number, wave):
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

    async def all_of_them():
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


def test_a_step_that_fails_is_told_to_those_who_wait(denoiser, monkeypatch):
    async def scene():
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


def talk(served, samples, query="", size=1000):
    """A whole stream over the WebSocket: (hello, what came back as bytes)."""
    with served.websocket_connect(f"{STREAM}{query}") as socket:
        hello, content, pieces = socket.receive_json(), samples.tobytes(), []
        for start in range(0, len(content), size):
            socket.send_bytes(content[start : start + size])
            pieces.append(socket.receive_bytes())
        socket.send_text(live.END)
        pieces.append(socket.receive_bytes())
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_bytes()
        assert closed.value.code == 1000
    return hello, b"".join(pieces)


def test_a_stream_over_the_websocket(served, denoiser):
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


def test_a_strength_over_http(served, told_dir, tmp_path):
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


def test_a_strength_over_the_websocket(served, told_dir):
    wave, query = speech_like(0, 1.0).astype(np.float32), "?format=f32le&model=told"
    stage = Denoiser.load(told_dir).stream(strength="gentle")
    hello, content = talk(served, wave, f"{query}&strength=0")
    assert hello["strength"] == 0.0
    expected = np.concatenate([stage.push(wave[:, None]), stage.flush()])[:, 0]
    np.testing.assert_allclose(np.frombuffer(content, "<f4"), expected, rtol=0.0, atol=1e-5)
    pieces, expected = [], [stage.push(wave[:8000, None])]
    with served.websocket_connect(f"{STREAM}{query}&strength=0") as socket:
        socket.receive_json()
        for part in (wave[:8000], wave[8000:]):
            socket.send_bytes(part.tobytes())
            pieces.append(np.frombuffer(socket.receive_bytes(), "<f4"))
            socket.send_text("strength 1")
        stage.strength = 1.0
        expected.append(stage.push(wave[8000:, None]))
        socket.send_text("strength much")
        assert "strength: expected" in socket.receive_json()["error"]
    expected = np.concatenate(expected)[:, 0]
    np.testing.assert_allclose(np.concatenate(pieces), expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_a_stream_at_another_rate_keeps_its_length_and_says_how_late_it_is(served, denoiser, rate):
    wave = speech_like(0, 1.0, rate)[: rate - 7].astype(np.float32)
    hello, content = talk(served, wave, f"?format=f32le&sample_rate={rate}", size=4 * (rate // 50))
    got, stage = np.frombuffer(content, "<f4"), denoiser.stream(rate)
    expected = np.concatenate([stage.push(wave[:, None]), stage.flush()])[: len(wave), 0]
    assert len(got) == len(wave) and 512 * rate / 16000 < hello["latency"] < 0.5 * rate
    np.testing.assert_allclose(got[: len(expected)], expected, rtol=0.0, atol=1e-4)


def test_more_streams_than_allowed_are_refused_and_the_others_go_on(served):
    silence = bytes(640)
    sockets = [served.websocket_connect(STREAM) for _ in range(LIMITS.max_streams)]
    try:
        for socket in sockets:
            socket.__enter__().receive_json()
        with pytest.raises(Exception) as refused, served.websocket_connect(STREAM):
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


def test_a_busy_server_takes_no_further_stream(served, monkeypatch):
    monkeypatch.setattr(busy, "_wanted_s", lambda: 10.0 * time.monotonic())  # ten cores' worth
    time.sleep(1.1)
    with pytest.raises(Exception) as refused, served.websocket_connect(STREAM):
        pass
    assert refused.value.status_code == 503
    assert refused.value.json() == {"error": "this machine is busy: try again in a while"}
    monkeypatch.undo()
    time.sleep(1.1)
    talk(served, np.zeros(100, "<i2"))


def test_how_busy_a_loop_is():
    """Whether it runs, or waits for a core that others have."""

    async def scene():
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


def test_an_idle_stream_ends_with_a_word(served):
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
def test_a_stream_that_cannot_be_is_refused_with_a_reason(served, query, status):
    with pytest.raises(Exception) as refused, served.websocket_connect(f"{STREAM}{query}"):
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
def test_a_broken_frame_ends_its_stream_alone(served, send, code):
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


# What is malformed


def form(*parts, boundary="b", end=True):
    lines = [
        f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts
    ]
    return b"".join(lines) + (f"--{boundary}--\r\n".encode() if end else b"")


def flac_bomb():
    """An hour and a half of silence in a few kilobytes."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 8000, 1, "PCM_16", format="FLAC") as bomb:
        for _ in range(90):
            bomb.write(np.zeros(60 * 8000, dtype=np.int16))
    return file.getvalue()


def a_wav(rate=16000, seconds=0.1, **options):
    file = io.BytesIO()
    sf.write(
        file,
        np.full(round(rate * seconds), options.pop("value", 0.1)),
        rate,
        format="WAV",
        **options,
    )
    return file.getvalue()


FILE = 'Content-Disposition: form-data; name="file"; filename="../../etc/x.wav"'
FORM = {"content-type": "multipart/form-data; boundary=b"}
MALFORMED = {
    "empty body": (b"", {}, {}, 400),
    "text": (b"hello", {}, {}, 415),
    "zeros": (bytes(1000), {}, {}, 415),
    "WAV header alone": (a_wav()[:44], {}, {}, 422),
    "half a WAV header": (a_wav()[:20], {}, {}, 415),
    "truncated FLAC": (flac_bomb()[:50], {}, {}, 415),
    "NaN samples": (a_wav(value=np.nan, subtype="FLOAT"), {}, {}, 422),
    "sample rate of 10 Hz": (a_wav(10, 10.0), {}, {}, 422),
    "decompression bomb": (flac_bomb(), {}, {}, 413),
    "longer than allowed": (a_wav(1000, 61.0), {}, {}, 413),
    "larger than allowed": (bytes(9 * 2**20), {}, {}, 413),
    "mix 2": (a_wav(), {"mix": 2}, {}, 422),
    "mix nan": (a_wav(), {"mix": "nan"}, {}, 422),
    "mix word": (a_wav(), {"mix": "x"}, {}, 422),
    "high_band": (a_wav(), {"high_band": "kep"}, {}, 422),
    "unknown model": (a_wav(), {"model": "../boxed"}, {}, 422),
    "id": (a_wav(), {"id": "../x"}, {}, 422),
    "long name": (b"x", {"name": "x" * 1000}, {}, 422),
    "form, no boundary": (form((FILE, a_wav())), {}, {"content-type": "multipart/form-data"}, 400),
    "form, other boundary": (
        form((FILE, a_wav())),
        {},
        {"content-type": "multipart/form-data; boundary=c"},
        400,
    ),
    "form, no file": (form(('Content-Disposition: form-data; name="x"', b"1")), {}, FORM, 400),
    "form, two files": (form((FILE, a_wav()), (FILE, a_wav())), {}, FORM, 400),
    "form, empty file": (form((FILE, b"")), {}, FORM, 400),
    "form, cut short": (form((FILE, a_wav()), end=False), {}, FORM, 400),
    "form, a path as name": (form((FILE, b"text")), {}, FORM, 415),
    "form, no disposition": (form(("X: y", a_wav())), {}, FORM, 400),
    "form, too many fields": (
        form(*[('Content-Disposition: form-data; name="x"', b"1")] * 101, (FILE, a_wav())),
        {},
        FORM,
        400,
    ),
    "form, endless header": (form(("X: " + "y" * 100000, a_wav())), {}, FORM, 400),
    "form, not one": (b"hello", {}, FORM, 400),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_is_answered_in_one_line(served, temporary, caplog, case):
    body, query, headers, status = MALFORMED[case]
    answer = served.post("/v1/enhance", content=body, params=query, headers=headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and "\n" not in error
    assert str(temporary) not in error and "upload" not in error and "etc" not in error
    assert not [record for record in caplog.records if record.exc_info] and left_of(temporary) == []


def test_two_hundred_malformed_requests_leave_memory_flat(served, temporary):
    draw, base = np.random.default_rng(0), [a_wav(), flac_bomb()[:3000], form((FILE, a_wav()))]

    def ask(number):
        body = bytearray(base[number % 3])
        for _ in range(draw.integers(1, 9)):
            body[draw.integers(len(body))] = draw.integers(256)
        headers = FORM if number % 3 == 2 else {}
        return served.post(
            "/v1/enhance", content=bytes(body[: draw.integers(1, len(body))]), headers=headers
        )

    statuses, process = set(), psutil.Process()
    for number in range(200):
        statuses.add(ask(number).status_code)
        if number == 50:
            before = process.memory_info().rss
    assert statuses <= {200, 400, 413, 415, 422} and len(statuses) > 2
    assert process.memory_info().rss - before < 16 * 2**20
    assert served.get("/healthz").json()["status"] == "ok" and left_of(temporary) == []


def test_a_body_that_stops_coming_is_given_up(served, temporary):
    async def stops():
        yield b"RIFF"
        await asyncio.sleep(60)

    status, _, content = served.portal.call(post, served.app, stops())
    assert (status, content) == (408, b'{"error":"nothing came for 1 s"}')
    assert left_of(temporary) == []


def test_unknown_routes_are_json_too(served):
    assert (
        served.get("/v2").json() == {"error": "Not Found"} and served.get("/v2").status_code == 404
    )
    assert served.get("/v1/enhance").json() == {"error": "Method Not Allowed"}


# Who may ask


@pytest.mark.parametrize(
    "headers, status",
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"origin": "https://denoise.example"}, 200),  # a proxy's name, which rewrites the Host
        ({"host": "denoise.example", "origin": "https://denoise.example"}, 200),
        ({"host": "denoise.example", "origin": "https://evil.example"}, 403),
        ({"host": "evil.example:8000"}, 403),  # a name that was made to point here
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": "[::1"}, 403),
        ({"host": "localhost:8000"}, 200),
    ],
)
def test_foreign_pages_are_refused(served, headers, status):
    assert served.get("/v1/models", headers=headers).status_code == status
    assert "access-control-allow-origin" not in served.get("/v1/models", headers=headers).headers
    if status == 200:
        with served.websocket_connect(STREAM, headers=headers) as socket:
            assert socket.receive_json()["latency"] == 512
    else:
        with (
            pytest.raises(Exception) as refused,
            served.websocket_connect(STREAM, headers=headers),
        ):
            pass
        assert refused.value.status_code == status


def test_a_token_is_asked_for_where_there_is_one(model_dir, temporary):
    with client(create_app({"small": model_dir}, token="pass wörd €")) as guarded:
        bearer = {"authorization": "Bearer pass wörd €".encode()}
        for path, open_to_all in [
            ("/", True),
            ("/healthz", True),
            ("/v1/models", False),
            ("/metrics", False),
        ]:
            assert guarded.get(path).status_code == (200 if open_to_all else 401)
            assert guarded.get(path, headers=bearer).status_code == 200
        for wrong in (
            "Bearer pass wor",
            "Bearer ",
            "Basic pass word",
            "pass word",
            "Bearer \u00e9",
        ):
            answer = guarded.get("/v1/models", headers={"authorization": wrong.encode("latin-1")})
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        for query, headers in [("?token=pass+w%C3%B6rd+%E2%82%AC", {}), ("", bearer)]:
            with guarded.websocket_connect(f"{STREAM}{query}", headers=headers) as socket:
                socket.receive_json()
        with pytest.raises(Exception) as refused, guarded.websocket_connect(f"{STREAM}?token=x"):
            pass
        assert refused.value.status_code == 401
        assert (
            guarded.get("/healthz", headers={"host": "my.server"}).status_code == 200
        )  # its name is its owner's affair


def test_head_is_answered_and_nothing_redirects_to_a_foreign_host(served):
    for path in ("/", "/healthz", "/v1/models", "/metrics"):
        assert served.head(path).status_code == 200
    assert served.head("/v1/enhance").status_code == 405
    answer = served.get("/v1/models/", headers={"host": "denoise.example"}, follow_redirects=False)
    assert answer.status_code == 404 and "location" not in answer.headers


def test_every_answer_is_safe_in_a_browser(served):
    for path in ("/", "/docs", "/healthz", "/nothing"):
        headers = served.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in served.get("/").headers["content-security-policy"]


def test_metrics_tell_what_was_done(model_dir, temporary):
    with client(create_app({"small": model_dir})) as fresh:
        fresh.post("/v1/enhance", content=a_wav(seconds=1.5))
        fresh.post("/v1/enhance", content=b"x")
        talk(fresh, np.zeros(16000, "<i2"), size=6400)
        text = fresh.get("/metrics").text
    for line in (
        'gan_denoise_requests_total{route="/v1/enhance",status="200"} 1.0',
        'gan_denoise_requests_total{route="/v1/enhance",status="415"} 1.0',
        'gan_denoise_requests_total{route="/v1/stream",status="101"} 1.0',
        'gan_denoise_audio_seconds_total{kind="file"} 1.5',
        'gan_denoise_audio_seconds_total{kind="stream"} 1.0',
        "gan_denoise_streams_open 0.0",
        "gan_denoise_queue 0.0",
        "gan_denoise_answer_seconds_count 5.0",
    ):
        assert line in text.splitlines(), line
    factors = re.findall(r"gan_denoise_real_time_factor\{.* (.*)", text)
    assert len(factors) == 2 and all(0.0 < float(factor) < 10.0 for factor in factors)


# The program


def test_private_files_of_a_killed_server_are_removed_by_the_next(temporary):
    code = (
        "import time; from gan_denoise.serve.uploads import PrivateFolder\n"
        "with PrivateFolder() as folder:\n"
        "    (folder.path / 'a').write_text('x'); print(folder.path, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)}
    ) as killed:
        folder = temporary / killed.stdout.readline().strip()
        with uploads.PrivateFolder() as other:
            assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "a").exists()  # it lives
        killed.send_signal(signal.SIGKILL)
    assert (folder / "a").exists() and not other.path.exists()
    with uploads.PrivateFolder():
        assert not folder.exists()


def test_the_command_refuses_what_is_unsafe_or_wrong(model_dir, tmp_path, monkeypatch):
    one_error_line(cli("serve", "--host", "0.0.0.0"), "--token")
    for token in ("", " ", "a\nb"):
        one_error_line(cli("serve", "--token", token), "--token")
    one_error_line(cli("serve", "--model", f"a={tmp_path}"), "no model directory")
    one_error_line(
        cli("serve", "--model", f"a={model_dir}", "--model", f"a={model_dir}"), "same name"
    )
    assert cli("serve", "--model", "dir").returncode == 2
    assert cli("serve", "--port", "99999").returncode == 2
    assert cli("serve", "--max-streams", "0").returncode == 2
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one_error_line(
            cli("serve", "--model", f"a={model_dir}", "--port", taken.getsockname()[1]), "--port"
        )
    monkeypatch.setitem(sys.modules, "fastapi_offline", None)
    monkeypatch.delitem(sys.modules, "gan_denoise.serve.app")
    one_error_line(cli("serve"), 'pip install "gan_denoise[serve]"')
