"""Connections of gan-denoise serve, on a real socket: silence, floods, slow readers, the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from conftest import wait_for
from gan_denoise.serve import connections, server
from gan_denoise.serve.app import create_app
from gan_denoise.serve.connections import Share
from gan_denoise.serve.limits import Limits
from service_here import a_wav, form, left_of
from service_process import frame, open_stream
from small_models import SMALL, randomised, save

LIMITS = Limits(
    max_connections=12, max_head_time=1, idle_timeout=1, max_load=999, max_request_time=2
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("connections") / "model"
    return save(folder, SMALL["causal"], randomised(SMALL["causal"]))


@contextlib.contextmanager
def listening(model_dir: Path, folder: Path, limits: Any = LIMITS) -> Iterator[Any]:
    """The port of a service in a thread of this process, whose TMPDIR is `folder`."""
    with pytest.MonkeyPatch.context() as patch, socket.create_server(("127.0.0.1", 0)) as listener:
        patch.setattr("tempfile.tempdir", str(folder))
        # An answer soon waits for its client
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**14)
        serving = server.server(create_app({"small": model_dir}, limits=limits), "announced")
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not serving.started:
                assert thread.is_alive()
                time.sleep(0.02)
            yield serving, listener.getsockname()[1]
        finally:
            serving.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def service(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with listening(model_dir, tmp_path_factory.mktemp("wire")) as server_and_port:
        yield server_and_port


@pytest.fixture(scope="module")
def wire(service: Any) -> int:
    """The service's port."""
    return service[1]


def connect(port: int, content: bytes = b"", *, receives: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receives:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", port))
    connection.sendall(content)
    return connection


def read(connection: socket.socket) -> bytes:
    """All until the other side closes it."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def upload(content: bytes, *, more: int = 0, kind: str = "audio/wav") -> bytes:
    """A request with a file; more: bytes that it promises beyond."""
    return (
        "POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(content) + more}\r\n\r\n"
    ).encode() + content


def test_who_asks_nothing_is_cut_off(wire: Any) -> None:
    began = time.monotonic()
    with connect(wire) as silent, connect(wire, b"GET / HT") as dripping, connect(wire) as served:
        served.sendall(HEALTH.replace(b"Connection: close\r\n", b""))
        with contextlib.suppress(OSError):
            for letter in itertools.repeat(b"X", 200):
                dripping.sendall(letter)
                time.sleep(0.05)
        assert (read(silent), read(dripping)) == (b"", b"")
        assert b"200 OK" in read(served)  # and then it asked nothing more
    assert time.monotonic() - began < 9


def test_the_silent_make_room_and_who_works_keeps_it(
    wire: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = [connect(wire) for _ in range(LIMITS.max_connections + 3)]
    with connect(wire, HEALTH) as heard:
        assert b"200 OK" in read(heard)
    for connection in silent:
        connection.close()
    streams = []
    try:
        for _ in range(LIMITS.max_connections):
            streams.append(open_stream(wire))
            assert b"101" in streams[-1].recv(4096)
        with connect(wire, HEALTH) as refused:
            answer = read(refused)
        assert b"503" in answer and b"retry-after: 5" in answer and b"all connections" in answer
    finally:
        for stream in streams:
            stream.close()
    assert capsys.readouterr().err.count("all 12 connections are in use") == 1


def test_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)  # or this process's
    monkeypatch.setattr(os, "listdir", lambda _: ["0"] * 20)
    assert connections.Connections(Limits()).most == 64 - 20 - 8 - 16


def test_a_slow_steady_reader_gets_all(wire: Any) -> None:
    content = a_wav(seconds=2.0)  # 64 kB
    with connect(wire, upload(content), receives=4096) as slow:
        got, began = slow.recv(4096), time.monotonic()
        while piece := slow.recv(4096):
            got += piece
            time.sleep(0.1)
    assert time.monotonic() - began > 1.3 * LIMITS.idle_timeout
    assert len(got) > len(content)


def test_who_takes_nothing_is_cut_off_without_a_word(
    service: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An answer that nobody reads, and one stream's, which does not wait for the handshake."""
    serving, wire = service
    content = a_wav(seconds=40.0)  # more than what the system keeps for a reader
    with connect(wire, upload(content), receives=4096) as none, open_stream(wire) as stream:
        with contextlib.suppress(OSError):
            stream.settimeout(1)
            for _ in range(200):
                stream.sendall(frame(0x82, bytes(2**16)))
        none.recv(1, socket.MSG_PEEK)  # the answer is there, however long its work took
        wait_for(lambda: not serving.server_state.connections)
        assert len(read(none)) < len(content)
        with contextlib.suppress(TimeoutError):
            read(stream)  # to its end
    assert not caplog.records


def silence(port: int) -> float:
    """The longest that a live stream waits for an answer, in half a second."""
    longest, ends = 0.0, time.monotonic() + 0.5
    with open_stream(port) as stream:
        stream.recv(4096)
        while time.monotonic() < ends:
            began = time.monotonic()
            stream.sendall(frame(0x82, bytes(512)))
            stream.recv(4096)
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
    return longest


FLOODS = {
    "pings": frame(0x89, b""),
    "one sample": frame(0x82, bytes(2)),
    "strengths": frame(0x81, b"strength 0"),
    "chunks": b"1\r\nx\r\n",
    "fields": b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\n1\r\n",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_costs_the_others_nothing(wire: Any, kind: Any) -> None:
    piece, over = FLOODS[kind] * 20000, threading.Event()
    head = b"POST /v1/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    if kind == "chunks":
        connection = connect(wire, head + b"Transfer-Encoding: chunked\r\n\r\n")
    elif kind == "fields":
        head += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999999\r\n\r\n"
        connection = connect(wire, head)
    else:
        connection = open_stream(wire)
        connection.recv(4096)

    def flood() -> None:
        with contextlib.suppress(OSError):
            while not over.is_set():
                connection.sendall(piece)

    threads = [threading.Thread(target=flood), threading.Thread(target=read, args=[connection])]
    for thread in threads:
        thread.start()
    try:
        assert silence(wire) < 0.5
    finally:
        over.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        connection.close()


def test_a_share_is_a_tenth_after_a_burst() -> None:
    share = Share()
    assert share.spend(0.01) == 0.0
    assert 0.8 < share.spend(0.11) <= 1.0


def test_time_runs_from_a_files_turn(wire: Any) -> None:
    """Three that take a second each, of two that each may take."""
    content = upload(a_wav(seconds=0.2))
    workers = [one for parent in psutil.Process().children() for one in parent.children()]
    for worker in workers:
        worker.suspend()
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(connect(wire, content)) for _ in range(3)]
        time.sleep(LIMITS.max_request_time + 0.3)
        for worker in workers:
            worker.resume()
        statuses = [read(connection)[9:12] for connection in waiting]
    assert statuses[1:] == [b"200", b"200"]  # the first was at work


def test_at_the_end_who_is_at_work_is_told_so(
    model_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(server, "_GRACE_S", 0.3)
    content = a_wav(seconds=1.0)
    limits = Limits(max_load=999)
    with (
        listening(model_dir, tmp_path, limits) as (serving, port),
        connect(port, upload(content, more=1000)) as sending,
        open_stream(port) as stream,
        connect(port, HEALTH.replace(b"close", b"keep-alive")) as idle,
    ):
        stream.recv(4096), idle.recv(4096)
        wait_for(lambda: list(tmp_path.rglob("upload")))
        serving.should_exit = True
        answer = read(sending)
        assert b"503" in answer and b'{"error":"this server is ending' in answer
        assert read(stream) and read(idle) == b""
    assert not [record for record in caplog.records if record.exc_info]
    assert left_of(tmp_path) == [] and "Traceback" not in capsys.readouterr().err


def test_a_form_in_slices_is_whole(wire: Any) -> None:
    head = 'Content-Disposition: form-data; name="file"; filename="x.wav"'
    content = form((head, a_wav(seconds=1.0)))
    with connect(wire, upload(content, kind="multipart/form-data; boundary=b")) as connection:
        answer = read(connection)
    assert b"200 OK" in answer[:20] and len(answer) > 32000
    assert np.frombuffer(answer[-32000:], "<i2").any()


def test_a_header_over_the_limit_is_refused_without_a_word(
    service: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came behind the refusal was handed on too, and the parser failed."""
    serving, wire = service
    with connect(wire) as connection, contextlib.suppress(OSError):
        connection.sendall(HEALTH[:-4] + b"\r\nX-Long: " + b"x" * 100_000 + b"\r\n\r\n")
        assert b"400 Bad Request" in connection.recv(65536)
    wait_for(lambda: not serving.server_state.connections)
    assert not [record for record in caplog.records if record.exc_info]
    assert "Traceback" not in capsys.readouterr().err
    with connect(wire, HEALTH) as heard:
        assert b"200 OK" in read(heard)


def test_a_request_target_may_name_the_host(wire: Any) -> None:
    """As clients send it that take this server for a proxy; every server has to take it."""
    for target, status in (
        (b"http://127.0.0.1/healthz", b"200 OK"),
        (b"HTTP://127.0.0.1:80/healthz?x=1", b"200 OK"),
        (b"http://127.0.0.1", b"200 OK"),
        (b"http://127.0.0.1/absent", b"404"),
    ):
        with connect(wire, HEALTH.replace(b"/healthz", target)) as connection:
            assert status in read(connection)[:20], target
