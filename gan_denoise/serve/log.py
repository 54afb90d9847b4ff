"""The log: a line for each request that is refused or fails and, at --log-level info, for each.

    2026-12-01T12:00:00+0100 warning id=5f0c...  route=/v1/enhance status=415 seconds=0.02
        file="words.wav" reason="cannot be decoded (...)" remedy="replace or remove it"

all on one line. No audio is in it, no path, and no client's address unless asked for.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gan_denoise.errors import InputError
from gan_denoise.system.terminal import say

Level = Literal["error", "warning", "info"]
LEVELS: tuple[Level, ...] = get_args(Level)
_LOG = logging.getLogger("gan_denoise.serve")
_ENTRY = "gan_denoise.entry"  # of a request's scope
_LONGEST_PATH = 100


@dataclass
class Entry:
    """What becomes of a request, or of a live stream.

    id: the client's, or drawn. file: the client's name for it, without a path. status: of HTTP, 101
    for a stream that began, 0 where nobody was there to take an answer. error: why it was refused,
    or has failed.
    """

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    file: str = ""
    status: int = 0
    error: InputError | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def level(self) -> int:
        if self.status >= 500:
            return logging.ERROR
        return logging.WARNING if self.error else logging.INFO


def enter(scope: MutableMapping[str, Any]) -> Entry:
    """A new entry for a request."""
    scope[_ENTRY] = entry = Entry()
    return entry


def entry_of(scope: MutableMapping[str, Any]) -> Entry:
    """The request's entry; one that nobody reads, where none was made."""
    return scope.get(_ENTRY) or Entry()


def write(entry: Entry, scope: MutableMapping[str, Any], *, clients: bool) -> None:
    """The line of a request that has ended. clients: their addresses too."""
    if not _LOG.isEnabledFor(entry.level):
        return
    route = getattr(scope.get("route"), "path", None)
    fields: dict[str, Any] = {
        "id": entry.id,
        "route": route or json.dumps(scope["path"][:_LONGEST_PATH]),
        "status": entry.status,
        "seconds": f"{time.monotonic() - entry.began:.2f}",
    }
    if clients and scope.get("client"):
        fields["client"] = scope["client"][0]
    words = {"file": entry.file}
    if error := entry.error:
        named = "" if error.where == entry.file else error.where
        words |= {"where": named, "reason": error.problem, "remedy": error.remedy}
    fields |= {name: json.dumps(text, ensure_ascii=False) for name, text in words.items() if text}
    _LOG.log(entry.level, " ".join(f"{name}={value}" for name, value in fields.items()))


def begin(level: Level) -> None:
    """Have lines of this level and above written to standard error."""
    handler = _ToStandardError()
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    _LOG.handlers[:] = [handler]
    _LOG.setLevel(level.upper())


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)
