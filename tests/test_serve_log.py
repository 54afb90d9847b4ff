"""The service's log: a line for what is refused or fails, for all at --log-level info; no more."""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from gan_denoise.serve import log
from gan_denoise.serve.app import create_app
from service_here import FORM, LIMITS, STREAM, a_wav, client, form

SECRET = 'Content-Disposition: form-data; name="file"; filename="/home/me/se cret.wav"'
Lines = Callable[[log.Level], Callable[[], list[str]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Begins to log at a level; returns what gives the lines since."""

    def begin(level: log.Level) -> Callable[[], list[str]]:
        log.begin(level)
        capsys.readouterr()
        return lambda: capsys.readouterr().err.splitlines()

    yield begin
    logger = logging.getLogger("gan_denoise.serve")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)


def fields(line: str) -> dict[str, str]:
    """And the time and the level, which come first."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}) (\w+) (.*)", line)
    assert match is not None, line
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', match[3])
    words = {name: json.loads(text) if text[0] == '"' else text for name, text in pairs}
    return {"time": match[1], "level": match[2], **words}


def test_a_refused_file_is_one_line_with_its_reason_and_remedy(
    served: TestClient, lines: Lines
) -> None:
    told, key = lines("warning"), uuid.uuid4()
    answer = served.post(
        f"/v1/enhance?id={key}", content=form((SECRET, b"this is no audio")), headers=FORM
    )
    (line,) = told()
    entry = fields(line)
    assert (entry["level"], entry["id"], entry["status"]) == ("warning", str(key), "415")
    assert (entry["route"], entry["file"]) == ("/v1/enhance", "se cret.wav")
    assert "cannot be decoded" in entry["reason"] and entry["remedy"] == "replace or remove it"
    assert "where" not in entry and "client" not in entry and "home" not in line
    assert answer.headers["x-request-id"] == str(key)


@pytest.mark.parametrize(
    "path, headers, status, words",
    [
        ("/v2%0Awarning%20id=1", {}, 404, "Not Found"),
        ("/v1/models", {"origin": "http://evil.example"}, 403, "other origins"),
        ("/v1/progress/x", {}, 422, "valid UUID"),
    ],
)
def test_what_is_refused_elsewhere_is_logged_in_one_line_too(
    served: TestClient,
    lines: Lines,
    path: str,
    headers: dict[str, Any],
    status: int,
    words: str,
) -> None:
    told = lines("warning")
    served.get(path, headers=headers)
    (line,) = told()
    assert fields(line)["status"] == str(status) and words in fields(line)["reason"]


def test_what_goes_well_is_logged_for_who_asks(served: TestClient, lines: Lines) -> None:
    told = lines("warning")
    served.post("/v1/enhance?name=x.wav", content=a_wav())
    assert told() == []
    told = lines("info")
    answer = served.post("/v1/enhance?name=a/x.wav", content=a_wav())
    served.get("/healthz")
    first, second = map(fields, told())
    assert (first["status"], first["file"], first["level"]) == ("200", "x.wav", "info")
    assert uuid.UUID(first["id"]) == uuid.UUID(answer.headers["x-request-id"])
    assert second["route"] == "/healthz" and "reason" not in first


def test_a_stream_is_one_line_when_it_ends(served: TestClient, lines: Lines) -> None:
    told = lines("warning")
    with served.websocket_connect(f"{STREAM}?model=small") as socket:
        socket.receive_json()
        socket.send_bytes(np.full(100, np.nan, dtype="<f4").tobytes()[:-1])
        socket.receive_json()
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()
    with pytest.raises(WebSocketDisconnect), served.websocket_connect(f"{STREAM}?model=whole"):
        pass
    broken, refused = map(fields, told())
    assert (broken["route"], broken["status"]) == ("/v1/stream", "101")
    assert "not a whole number" in broken["reason"]
    assert refused["status"] == "422" and "cannot stream" in refused["reason"]


def test_a_failure_inside_is_an_error_that_names_its_place(
    served: TestClient, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = lines("error")
    monkeypatch.setattr("gan_denoise.serve.app.Model", lambda **_: 1 / 0)
    assert served.get("/v1/models").status_code == 500
    entries = [fields(line) for line in told() if " error id=" in line]
    assert len(entries) == 1 and "ZeroDivisionError" in entries[0]["reason"]
    assert "test_serve_log.py" in entries[0]["reason"] and entries[0]["remedy"]


def test_addresses_are_named_for_who_asks(model_dir: Path, temporary: Path, lines: Lines) -> None:
    app = create_app({"small": model_dir}, limits=LIMITS, log_clients=True)
    with client(app) as opened:
        told = lines("info")
        opened.get("/healthz")
        assert [fields(line)["client"] for line in told()] == ["testclient"]
