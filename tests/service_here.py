"""gan-denoise serve in this process: a client, its models, requests of every kind."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile as sf
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from conftest import speech_like, write
from gan_denoise.enhance import Denoiser
from gan_denoise.serve import live
from gan_denoise.serve.app import create_app
from gan_denoise.serve.limits import Limits
from small_models import SMALL, randomised, save

LIMITS = Limits(
    max_upload_mb=8, max_duration=60, max_streams=20, max_files=3, idle_timeout=1, max_load=999
)


@pytest.fixture(scope="module")
def denoiser(model_dir: Path) -> Denoiser:
    return Denoiser.load(model_dir)


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TMPDIR of the service."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def told_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is told a strength."""
    options = SMALL["bands"] | {"strength": True}
    return save(tmp_path_factory.mktemp("told") / "model", options, randomised(options))


@pytest.fixture(scope="module")
def served(
    model_dir: Path, told_dir: Path, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    """A client of the service: a streaming model, one that is not, and one told a strength."""
    whole = save(
        tmp_path_factory.mktemp("whole") / "model", SMALL["convnext"], randomised(SMALL["convnext"])
    )
    models = {"small": model_dir, "whole": whole, "told": told_dir}
    app = create_app(models, limits=LIMITS, allowed=frozenset({"denoise.example"}))
    with client(app) as opened:
        yield opened


STREAM = "ws://127.0.0.1:8000/v1/stream"


def client(app: Any) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)


def wave_file(
    path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1, **options: Any
) -> Path:
    wave = np.stack([speech_like(seed, seconds, rate) for seed in range(channels)], axis=1)
    return write(path, wave, rate, **options)


def left_of(folder: Path) -> list[Path]:
    """Files that the service left."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def post(app: Any, pieces: Any, query: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
    """POST /v1/enhance with a body that comes as `pieces` does: (status, headers, content)."""
    sent: list[dict[str, Any]] = []
    headers, ended = [(b"host", b"127.0.0.1")], False

    async def receive() -> Any:
        nonlocal ended
        async for piece in pieces:
            return {"type": "http.request", "body": piece, "more_body": True}
        if ended:
            await asyncio.sleep(60)
        ended = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
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


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Those that work on files: the forkserver's children."""
    return [worker for server in process.children() for worker in server.children()]


def kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        process.kill()


def talk(
    served: TestClient, samples: np.ndarray, query: str = "", size: int = 1000
) -> tuple[dict[str, Any], bytes]:
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


def form(*parts: Any, boundary: str = "b", end: bool = True) -> bytes:
    lines = [
        f"--{boundary}\r\n{head}\r\n\r\n".encode() + content + b"\r\n" for head, content in parts
    ]
    return b"".join(lines) + (f"--{boundary}--\r\n".encode() if end else b"")


def flac_bomb() -> bytes:
    """An hour and a half of silence in a few kilobytes."""
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 8000, 1, "PCM_16", format="FLAC") as bomb:
        for _ in range(90):
            bomb.write(np.zeros(60 * 8000, dtype=np.int16))
    return file.getvalue()


def a_wav(rate: int = 16000, seconds: float = 0.1, **options: Any) -> bytes:
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
