"""gan-denoise serve and files: what comes back, how many at once, and what heals."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import threading
import tracemalloc
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile as sf
from starlette.requests import Request
from starlette.testclient import TestClient

from conftest import wait_for
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.serve import files, uploads
from gan_denoise.serve.limits import Limits
from service_here import FILE, a_wav, form, kill, left_of, post, talk, wave_file, workers_of
from small_models import SMALL, randomised, save


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
    served: TestClient,
    model_dir: Path,
    tmp_path: Path,
    name: str,
    rate: int,
    channels: int,
    query: dict[str, Any],
    as_form: bool,
) -> None:
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


@pytest.mark.parametrize(
    "format, kind, rate",
    [("flac-24", ("FLAC", "PCM_24"), 16000), ("wav-float", ("WAV", "FLOAT"), 44100)],
)
def test_a_file_comes_back_in_the_format_that_is_asked_for(
    served: TestClient, tmp_path: Path, format: str, kind: tuple[str, str], rate: int
) -> None:
    source = wave_file(tmp_path / "a.ogg", 0.3, rate)
    query: dict[str, Any] = {"format": format, "mix": 0, "name": "a.ogg"}
    answer = served.post("/v1/enhance", params=query, content=source.read_bytes())
    info = sf.info(io.BytesIO(answer.content))
    assert (info.format, info.subtype) == kind and answer.headers["x-notes"] == ""
    assert f"a_enhanced.{kind[0].lower()}" in answer.headers["content-disposition"]
    answer = served.post("/v1/enhance", params={"format": "mp3"}, content=source.read_bytes())
    assert answer.status_code == 422


def test_several_files_at_once_and_nothing_stays(
    served: TestClient, temporary: Path, tmp_path: Path
) -> None:
    content = wave_file(tmp_path / "a.wav", 2.0).read_bytes()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: served.post("/v1/enhance", content=content), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.content for answer in answers}) == 1
    assert left_of(temporary) == []


def test_more_files_than_allowed_are_refused_and_progress_is_told(
    served: TestClient, tmp_path: Path
) -> None:
    content, key = (
        wave_file(tmp_path / "a.wav").read_bytes(),
        "00000000-0000-0000-0000-000000000001",
    )
    told = f"/v1/progress/{key}"

    assert served.portal is not None
    release, refusals = asyncio.Event(), threading.Event()

    async def scene() -> Any:
        async def slow() -> AsyncIterator[Any]:
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


def test_uploads_need_constant_memory(tmp_path: Path) -> None:
    pieces, piece = 64, bytes(2**20)

    async def receive() -> Any:
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


def test_files_are_worked_on_again_when_their_processes_died(served: TestClient) -> None:
    expected = served.post("/v1/enhance", content=a_wav(seconds=0.5)).content
    for _ in range(2):
        kill(workers_of(psutil.Process()))
        answer = served.post("/v1/enhance", content=a_wav(seconds=0.5))
        assert (answer.status_code, answer.content) == (200, expected), answer.text
    text = served.get("/metrics").text
    assert re.search(r"worker_restarts [1-9]", text), text


def test_a_file_whose_process_is_killed_is_worked_on_again(served: TestClient) -> None:
    key, content = uuid.uuid4(), a_wav(seconds=50.0)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(served.post, f"/v1/enhance?id={key}", content=content)
        told: dict[str, dict[str, Any]] = {}
        while told.get(str(key), {}).get("state") != "enhancing":
            assert not asked.done()
            told = served.get(f"/v1/progress?id={key}&id={uuid.uuid4()}").json()
        assert set(told) == {str(key)}
        kill(workers_of(psutil.Process()))
        assert asked.result().status_code == 200


def test_progress_can_be_asked_at_any_moment(tmp_path: Path) -> None:
    files.tell_progress(tmp_path, 0.0)

    def tell() -> None:
        for share in np.linspace(0.0, 1.0, 100):
            files.tell_progress(tmp_path, share)

    with ThreadPoolExecutor(1) as pool:
        telling = pool.submit(tell)
        while not telling.done():
            assert files.progress(tmp_path) is not None
    assert files.progress(tmp_path) == 1.0


def test_health_tells_while_files_cannot_be_worked_on(served: TestClient, temporary: Path) -> None:
    wait_for(lambda: served.get("/healthz").status_code == 200)  # after the tests that kill
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


def test_a_folder_that_was_cleaned_away_is_made_again(served: TestClient, temporary: Path) -> None:
    for folder in temporary.glob("gan_denoise-serve-*"):
        shutil.rmtree(folder)
    assert served.post("/v1/enhance", content=a_wav()).status_code == 200
    assert left_of(temporary) == []


def test_a_model_stays_what_it_was_when_its_folder_changes(
    served: TestClient, model_dir: Path, tmp_path: Path
) -> None:
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


def test_many_channels_of_few_samples_are_counted(served: TestClient) -> None:
    """Each costs a window's work, and all together the square of their number."""
    for channels, status, words in (
        (200, 422, "the file: has 200 channels, 32 at most are served: split them"),
        (33, 422, "the file: has 33 channels, 32 at most are served: split them"),
        (3, 200, ""),
    ):
        file = io.BytesIO()
        sf.write(file, np.full((100, channels), 0.1), 16000, format="WAV")
        answer = served.post("/v1/enhance", content=file.getvalue())
        assert answer.status_code == status, answer.text
        assert not words or answer.json() == {"error": words}


def test_a_channel_counts_a_second_at_least(tmp_path: Path, model_dir: Path) -> None:
    limits = Limits(max_duration=3)
    files._models["small"] = Denoiser.load(model_dir)
    for channels, good in ((3, True), (4, False)):
        path = tmp_path / f"{channels}.wav"
        sf.write(path, np.full((100, channels), 0.1), 16000)
        outcome = files._enhance(path, "small", {}, None, limits)
        assert isinstance(outcome, files.Enhanced) == good
        if isinstance(outcome, files.Problem):
            assert outcome.status == 413 and "longer than 3 s (its 4" in str(outcome.error)


@pytest.mark.parametrize("size", [1, 7, 2**16])
def test_what_precedes_the_first_boundary_of_a_form_means_nothing(
    tmp_path: Path, size: int
) -> None:
    preamble = b"This is a message in several parts.\r\n--x\r\n--\r\nb\r\n"
    for before in (preamble, b"\r\n", b""):
        content = before + form((FILE, b"sound\r\n"), boundary="bound")

        async def taken(content: bytes = content) -> tuple[bytes, str]:
            parts = uploads.Form(b"bound", "")
            pieces = [content[at : at + size] for at in range(0, len(content), size)]
            file = b"".join([bytes(await parts.take(piece)) for piece in pieces])
            parts.finish()
            return file, parts.name

        assert asyncio.run(taken()) == (b"sound\r\n", "x.wav")
