"""gan-denoise serve as a process of its own, and connections to it."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from conftest import speech_like, write

PATH = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"


class Service:
    """A running one. url, port: where. log: what it has said."""

    def __init__(self, process: subprocess.Popen, log: Path) -> None:
        self.process, self._log = process, log
        deadline = time.monotonic() + 120
        while not (match := re.search(r"http://127\.0\.0\.1:(\d+)", self.log)):
            assert process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)
        self.url, self.port = match[0], int(match[1])

    def enhance(self) -> None:
        """A file, for which the first process must have begun."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        file = io.BytesIO()
        sf.write(file, np.zeros(1000), 16000, format="WAV")
        connection.request("POST", "/v1/enhance", file.getvalue())
        assert connection.getresponse().status == 200

    @property
    def log(self) -> str:
        return self._log.read_text()


@contextlib.contextmanager
def serving(folder: Path, *options: Any, end: signal.Signals = signal.SIGTERM) -> Iterator[Service]:
    log = folder / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen(
            ["gan-denoise", "serve", "--port", "0", "--max-load", "999", *options],
            stderr=file,
            env=os.environ | {"PATH": PATH, "TMPDIR": str(folder)},
        )
    try:
        yield Service(process, log)
    finally:
        process.send_signal(end)
        process.wait(60)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with the model in the package.

    At the end its log holds no traceback, and no file of its own stays.
    """
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, end=signal.SIGINT) as running:
        running.enhance()
        yield running
    assert "Traceback" not in running.log, running.log
    assert running.process.returncode == 128 + signal.SIGINT
    assert [path for path in folder.rglob("*") if path.is_file()] == [folder / "log"]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A noisy recording of 2 s, 16 kHz mono."""
    wave = speech_like(0, 2.0) + 0.02 * np.random.default_rng(0).standard_normal(32000)
    return write(tmp_path_factory.mktemp("noisy") / "noisy.wav", wave, subtype="PCM_16")


def open_stream(port: int, query: str = "") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(
        f"GET /v1/stream{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return connection


def frame(first: int, payload: bytes, masked: bool = True, length: int | None = None) -> bytes:
    length = len(payload) if length is None else length
    mask = 0x80 * masked
    head = (
        struct.pack("!BB", first, mask | length)
        if length < 126
        else struct.pack("!BBQ", first, mask | 127, length)
    )
    return head + bytes(4) * masked + payload
