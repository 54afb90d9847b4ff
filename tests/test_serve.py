"""gan-denoise serve: malformed requests, who may ask, what answers say, metrics, the command."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from starlette.testclient import TestClient, WebSocketDenialResponse

from conftest import cli, one_error_line
from gan_denoise.serve import uploads
from gan_denoise.serve.app import create_app
from service_here import FILE, FORM, STREAM, a_wav, client, flac_bomb, form, left_of, post, talk

# Body, query, headers, and the status of the answer
MALFORMED: dict[str, tuple[bytes, dict[str, Any], dict[str, str], int]] = {
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
def test_what_is_malformed_is_answered_in_one_line(
    served: TestClient, temporary: Path, caplog: pytest.LogCaptureFixture, case: Any
) -> None:
    body, query, headers, status = MALFORMED[case]
    answer = served.post("/v1/enhance", content=body, params=query, headers=headers)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and "\n" not in error
    assert str(temporary) not in error and "upload" not in error and "etc" not in error
    assert not [record for record in caplog.records if record.exc_info] and left_of(temporary) == []


def test_two_hundred_malformed_requests_leave_memory_flat(
    served: TestClient, temporary: Path
) -> None:
    draw, base = np.random.default_rng(0), [a_wav(), flac_bomb()[:3000], form((FILE, a_wav()))]

    def ask(number: int) -> Any:
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


def test_a_body_that_stops_coming_is_given_up(served: TestClient, temporary: Path) -> None:
    async def stops() -> AsyncIterator[Any]:
        yield b"RIFF"
        await asyncio.sleep(60)

    assert served.portal is not None
    status, _, content = served.portal.call(post, served.app, stops())
    assert (status, content) == (408, b'{"error":"nothing came for 1 s"}')
    assert left_of(temporary) == []


def test_unknown_routes_are_json_too(served: TestClient) -> None:
    assert (
        served.get("/v2").json() == {"error": "Not Found"} and served.get("/v2").status_code == 404
    )
    assert served.get("/v1/enhance").json() == {"error": "Method Not Allowed"}


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
def test_foreign_pages_are_refused(
    served: TestClient, headers: dict[str, Any], status: int
) -> None:
    assert served.get("/v1/models", headers=headers).status_code == status
    assert "access-control-allow-origin" not in served.get("/v1/models", headers=headers).headers
    if status == 200:
        with served.websocket_connect(STREAM, headers=headers) as socket:
            assert socket.receive_json()["latency"] == 512
    else:
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            served.websocket_connect(STREAM, headers=headers),
        ):
            pass
        assert refused.value.status_code == status


def test_a_token_is_asked_for_where_there_is_one(model_dir: Path, temporary: Path) -> None:
    with client(create_app({"small": model_dir}, token="pass wörd €")) as guarded:
        bearer = {b"authorization": "Bearer pass wörd €".encode()}
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
            answer = guarded.get("/v1/models", headers={b"authorization": wrong.encode("latin-1")})
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        for query, headers in [("?token=pass+w%C3%B6rd+%E2%82%AC", {}), ("", bearer)]:
            with guarded.websocket_connect(f"{STREAM}{query}", headers=headers) as socket:
                socket.receive_json()
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            guarded.websocket_connect(f"{STREAM}?token=x"),
        ):
            pass
        assert refused.value.status_code == 401
        assert (
            guarded.get("/healthz", headers={"host": "my.server"}).status_code == 200
        )  # its name is its owner's affair


def test_head_is_answered_and_nothing_redirects_to_a_foreign_host(served: TestClient) -> None:
    for path in ("/", "/healthz", "/v1/models", "/metrics"):
        assert served.head(path).status_code == 200
    assert served.head("/v1/enhance").status_code == 405
    answer = served.get("/v1/models/", headers={"host": "denoise.example"}, follow_redirects=False)
    assert answer.status_code == 404 and "location" not in answer.headers


def test_every_answer_is_safe_in_a_browser(served: TestClient) -> None:
    for path in ("/", "/docs", "/healthz", "/nothing"):
        headers = served.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in served.get("/").headers["content-security-policy"]


def test_metrics_tell_what_was_done(model_dir: Path, temporary: Path) -> None:
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


def test_private_files_of_a_killed_server_are_removed_by_the_next(temporary: Path) -> None:
    code = (
        "import time; from gan_denoise.serve.uploads import PrivateFolder\n"
        "with PrivateFolder() as folder:\n"
        "    (folder.path / 'a').write_text('x'); print(folder.path, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(temporary)}
    ) as killed:
        assert killed.stdout
        folder = temporary / killed.stdout.readline().strip()
        with uploads.PrivateFolder() as other:
            assert folder.stat().st_mode & 0o777 == 0o700 and (folder / "a").exists()  # it lives
        killed.send_signal(signal.SIGKILL)
    assert (folder / "a").exists() and not other.path.exists()
    with uploads.PrivateFolder():
        assert not folder.exists()


def test_the_command_refuses_what_is_unsafe_or_wrong(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_error_line(cli("serve", "--host", "0.0.0.0"), "--token")
    for token in ("", " ", "a\nb"):
        one_error_line(cli("serve", "--token", token), "--token")
    one_error_line(cli("serve", "--model", f"a={tmp_path}"), "not a model directory")
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
    one_error_line(cli("serve"), 'pip install ".[serve]"')
