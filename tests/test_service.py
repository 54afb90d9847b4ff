"""gan-denoise serve as a process: OpenAPI, its README's client, broken frames, its end."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings

import gan_denoise
from conftest import ROOT, one_error_line, run, speech_like, write
from gan_denoise import audio
from service_process import Service, frame, open_stream, serving

README = (ROOT / "gan_denoise/serve/README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_readmes_curl_line(service: Service, noisy: Path, tmp_path: Path) -> None:
    (line,) = re.findall(r"^    (curl .*)$", README, re.MULTILINE)
    (tmp_path / "noisy.wav").write_bytes(noisy.read_bytes())
    result = run("bash", "-c", line.replace("http://127.0.0.1:8000", service.url), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    enhanced, rate = audio.read_mono(tmp_path / "out.wav")
    expected = gan_denoise.load()(*audio.read_mono(noisy))
    assert rate == 16000
    np.testing.assert_allclose(enhanced, expected, atol=1.5 / 32768)  # a rounding, and threads


def test_openapi_holds(service: Service) -> None:
    import schemathesis  # a second, of every process that collects tests
    from schemathesis.core.result import Ok
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    operations = list(schema.get_all_operations())
    paths = [operation.ok().path for operation in operations if isinstance(operation, Ok)]
    assert len(paths) == len(operations) and set(paths) == {
        "/v1/models",
        "/healthz",
        "/metrics",
        "/v1/enhance",
        "/v1/progress",
        "/v1/progress/{id}",
    }
    for operation in operations:
        assert isinstance(operation, Ok)

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.ok().as_strategy())
        def holds(case: Any) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])  # bytes are no audio

        holds()


def readme_client(url: str) -> str:
    """The README's Python client, for another address."""
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (code,) = (block for block in blocks if "websockets" in block)
    assert len(code.strip().splitlines()) <= 10
    return code.replace("ws://127.0.0.1:8000", url.replace("http", "ws"))


def test_the_readmes_client_works(service: Service, noisy: Path, tmp_path: Path) -> None:
    (tmp_path / "noisy.wav").write_bytes(noisy.read_bytes())
    result = run("python", "-c", readme_client(service.url), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    samples, rate = audio.read(noisy)
    expected = gan_denoise.load("live")(samples, rate)
    got, _ = audio.read(tmp_path / "enhanced.wav")
    np.testing.assert_allclose(got, expected, rtol=0.0, atol=1.01 / 32768 + 1e-5)


BROKEN_FRAMES = {
    "no UTF-8": frame(0x81, b"\xff\xfe"),
    "not masked": frame(0x82, bytes(8), masked=False),
    "reserved opcode": frame(0x83, bytes(8)),
    "reserved bits": frame(0xF2, bytes(8)),
    "too large": frame(0x82, bytes(8), length=2**21),
    "continued nothing": frame(0x80, bytes(8)),
    "long ping": frame(0x89, bytes(126)),
    "half a sample": frame(0x82, bytes(3)),
    "words": frame(0x81, b"end?"),
    "close of one byte": frame(0x88, b"x"),
    "fragments beyond the limit": frame(0x02, bytes(2**20)) + frame(0x80, bytes(2**20)),
    "rubbish": b"\x00" * 64,
}


def test_two_hundred_broken_frames_and_requests_leave_the_server_well(
    service: Service, noisy: Path
) -> None:
    server, before = psutil.Process(service.process.pid), 0
    draw = np.random.default_rng(0)
    for number in range(200):
        if number == 50:
            before = server.memory_info().rss
        kind = number % (len(BROKEN_FRAMES) + 2)
        if kind < len(BROKEN_FRAMES):
            with open_stream(service.port) as connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 101")
                with contextlib.suppress(ConnectionError):
                    connection.sendall(list(BROKEN_FRAMES.values())[kind])
                    while b"\x88" not in (connection.recv(65536) or b"\x88"):
                        pass  # until it is closed from there
        else:
            with socket.create_connection(("127.0.0.1", service.port), timeout=5) as connection:
                connection.sendall(
                    draw.bytes(200) + b"\r\n\r\n" if kind % 2 else b"GET / HTTP/9.9\r\nHost\r\n\r\n"
                )
                assert connection.recv(4096).startswith(b"HTTP/1.1 400")
    assert server.memory_info().rss - before < 16 * 2**20
    with open_stream(service.port) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 101")


def test_memory_does_not_grow_with_the_file(service: Service, tmp_path: Path) -> None:
    """A minute at 192 kHz in 32 bits, 46 MB, sent as it is read."""
    second = (0.01 * np.random.default_rng(0).standard_normal(192000)).astype(np.float32)
    with sf.SoundFile(tmp_path / "long.wav", "w", 192000, 1, "FLOAT") as file:
        for _ in range(60):
            file.write(second)
    first = http.client.HTTPConnection("127.0.0.1", service.port)
    short = write(tmp_path / "short.wav", speech_like(0, 10.0))  # more than the model's window
    first.request("POST", "/v1/enhance", short.read_bytes())
    assert first.getresponse().read()
    processes = [psutil.Process(service.process.pid)]
    processes += processes[0].children(recursive=True)
    before, peak, connection = sum(process.memory_info().rss for process in processes), 0, None
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    with open(tmp_path / "long.wav", "rb") as file:
        connection.request(
            "POST",
            "/v1/enhance",
            file,
            encode_chunked=True,
            headers={"Transfer-Encoding": "chunked"},
        )
    answer = connection.getresponse()
    size = 0
    while piece := answer.read(2**20):
        size += len(piece)
        peak = max(peak, sum(process.memory_info().rss for process in processes))
    assert size == (tmp_path / "long.wav").stat().st_size
    assert peak - before < 32 * 2**20


def test_it_ends_without_a_traceback_and_without_orphans(tmp_path: Path) -> None:
    """The terminal is closed while the service is at work.

    A file is under way, a stream is open, and a connection says nothing.
    """
    with serving(tmp_path) as running:
        running.enhance()
        family = psutil.Process(running.process.pid).children(recursive=True)
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        head = "POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
        with (
            connection,
            open_stream(running.port),
            socket.create_connection(("127.0.0.1", running.port)),
        ):
            connection.sendall(head.encode())
            time.sleep(0.2)
            running.process.send_signal(signal.SIGHUP)
            assert b"503 Service Unavailable" in connection.recv(4096)
        assert running.process.wait(60) == 128 + signal.SIGHUP
    first, refused, last = running.log.splitlines()
    assert "status=503" in refused and 'reason="this server is ending"' in refused
    assert last == "terminated (SIGHUP)", first
    assert len(family) > 2 and not psutil.wait_procs(family, 30)[1]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "log"]


def test_a_server_that_is_killed_leaves_no_orphans_and_one_that_cannot_store_says_so(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as running:
        family = psutil.Process(running.process.pid).children(recursive=True)
        running.process.kill()
        assert family and not psutil.wait_procs(family, 60)[1]
    shutil.rmtree(next(tmp_path.glob("gan_denoise-serve-*")))
    (tmp_path / f"gan_denoise-serve-{os.getuid()}").write_text("a file of this name")
    result = run("gan-denoise", "serve", "--port", "0", env={"TMPDIR": str(tmp_path)})
    one_error_line(result, "gan_denoise-serve-")
    assert len(result.stderr.splitlines()) == 1
