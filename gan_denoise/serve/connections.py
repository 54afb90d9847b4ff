"""Connections, below HTTP and the WebSocket: nobody's silence, flood or slowness costs the others.

uvicorn's protocol of a connection stands behind `Connection`, which hands it what comes, in small
pieces, and no more of them than its share of the event loop's time allows. Guard tells when a
request has come (`asked`) and when it is answered.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import resource
import termios
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from gan_denoise.serve.limits import Limits
from gan_denoise.system.terminal import say

_SHARE, _BURST_S = 0.1, 0.02  # of the loop's time for one client: in the long run, and at once
_PIECE = 2**10, 2**14  # bytes handed on at once: of what takes long, and of what is quickly done
_QUICK_S, _TURN_S = 0.0005, 0.001  # that a piece may take, and all until the others' turn
_LOOKS = 4  # at what a client has taken, in the time that it may take nothing
_SAY_EVERY_S = 60.0
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
    b"connection: close\r\n\r\n"
    b'{"error":"all connections are taken: try again in a while"}\n'
)


class Share:
    """What one client may take of the event loop's time."""

    def __init__(self) -> None:
        self._debt_s, self._at = 0.0, time.monotonic()

    def spend(self, seconds: float) -> float:
        """The time that was taken -> the time to rest, mostly 0."""
        now = time.monotonic()
        self._debt_s = max(0.0, self._debt_s - _SHARE * (now - self._at)) + seconds
        self._at = now
        return max(0.0, (self._debt_s - _BURST_S) / _SHARE)


class Connections:
    """All of a server. `protocol` is what uvicorn asks for each."""

    def __init__(self, limits: Limits):
        self.limits, self.open = limits, set[Connection]()
        self.silent: dict[Connection, None] = {}  # without a request, the oldest first
        self._said: dict[str, float] = {}
        self.most = _as_many_as(limits)

    def protocol(self, *, app_state: dict[str, Any], **others: Any) -> Connection:
        """The connection is told to the application as scope["state"]["connection"]."""

        def inner(connection: Connection) -> asyncio.Protocol:
            state = app_state | {"connection": connection}
            return AutoHTTPProtocol(app_state=state, **others)  # type: ignore[call-arg]

        return Connection(self, inner)

    def admit(self, new: Connection) -> bool:
        """Whether there is room. The oldest of those that ask nothing makes it."""
        if len(self.open) >= self.most:
            self.say(f"all {self.most} connections are in use: idle ones are closed")
            if not self.silent:
                return False
            next(iter(self.silent)).abort()
        self.open.add(new)
        return True

    def forget(self, old: Connection) -> None:
        self.open.discard(old)
        self.silent.pop(old, None)

    def say(self, words: str) -> None:
        """A line in the log; the same one once a minute."""
        now = time.monotonic()
        if now - self._said.get(words, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said[words] = now
            say(f"serve: {words}")


def _as_many_as(limits: Limits) -> int:
    """The number of connections for which there are file descriptors.

    The descriptors that are open, and those that files take, do not count.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = limits.max_files + 16
    with contextlib.suppress(OSError):
        others += len(os.listdir("/proc/self/fd"))
    descriptors = limits.max_connections + others
    if soft != resource.RLIM_INFINITY and soft < descriptors:
        soft = descriptors if hard == resource.RLIM_INFINITY else min(descriptors, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = limits.max_connections if soft == resource.RLIM_INFINITY else soft - others
    return max(1, min(limits.max_connections, room))


class Connection(asyncio.Protocol):
    """One of them, between asyncio's transport and uvicorn's protocol, `inner`."""

    def __init__(self, connections: Connections, inner: Callable[[Connection], asyncio.Protocol]):
        self._connections, self._limits = connections, connections.limits
        self._loop, self.share = asyncio.get_running_loop(), Share()
        self.inner = inner(self)
        self.wants, self.shaking_hands = True, False  # inner reads; a WebSocket is not open yet
        self._waiting, self._piece = memoryview(b""), _PIECE[1]
        self._turn: asyncio.Handle | None = None
        self._rests_until, self._at_it = 0.0, False
        self._silence: asyncio.TimerHandle | None = None
        self._looks: asyncio.TimerHandle | None = None
        self.written, self._lost = 0, False

    # What comes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.admitted = self._connections.admit(self)
        if not self.admitted:
            self.transport.write(_FULL)
            self.transport.close()
            return
        self.inner.connection_made(_Wire(self))  # type: ignore[arg-type]
        self.answered()

    def data_received(self, data: bytes) -> None:
        if not self.admitted:
            return
        self._waiting = memoryview(bytes(self._waiting) + data if self._waiting else data)
        if self._turn is None and self._loop.time() >= self._rests_until:
            self.hand_on()
        else:
            self.go_on()

    def hand_on(self) -> None:
        """What waits, as far as inner wants it and the client's share goes."""
        self._turn, self._at_it, spent_s = None, True, 0.0
        while self._waiting and self.reads and spent_s < _TURN_S and not self.is_closing:
            piece, self._waiting = self._waiting[: self._piece], self._waiting[self._piece :]
            began = time.thread_time()
            self.inner.data_received(bytes(piece))
            took_s = time.thread_time() - began
            spent_s += took_s
            quick = took_s < _QUICK_S
            self._piece = min(2 * self._piece, _PIECE[1]) if quick else _PIECE[0]
        self._rests_until = self._loop.time() + self.share.spend(spent_s)
        self._at_it = False
        self.go_on()

    def go_on(self) -> None:
        """Hand on what waits, once it is this client's turn again."""
        if self.is_closing:  # inner has refused what came, and takes no more
            self._waiting = memoryview(b"")
        if self._waiting and self.reads and self._turn is None and not self._at_it:
            rest_s = max(0.0, self._rests_until - self._loop.time())
            self._turn = self._loop.call_later(rest_s, self.hand_on)
        self.read()

    @property
    def reads(self) -> bool:
        """uvicorn takes frames before its answer to the handshake for broken ones."""
        return self.wants and not self.shaking_hands

    @property
    def is_closing(self) -> bool:
        return bool(self.transport.is_closing())

    def read(self) -> None:
        """From the client, or not."""
        if self.is_closing:
            return
        if self.reads and not self._waiting:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def want(self, wants: bool) -> None:
        self.wants = wants
        self.go_on()

    def eof_received(self) -> bool | None:
        return self.inner.eof_received() if self.admitted else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        for timer in (self._turn, self._silence, self._looks):
            if timer is not None:
                timer.cancel()
        self._connections.forget(self)
        if self.admitted:
            self.inner.connection_lost(exc)

    # Silence

    def asked(self) -> None:
        """A whole request is here."""
        self._connections.silent.pop(self, None)
        if self._silence is not None:
            self._silence.cancel()

    def answered(self) -> None:
        """The next request may come."""
        self.asked()
        if self._lost:
            return
        self._connections.silent[self] = None
        self._silence = self._loop.call_later(self._limits.max_head_time, self._too_silent)

    def _too_silent(self) -> None:
        if self._left() < self.written:  # it is still taking the last answer
            self.watch_leaving()
            self.answered()
        else:
            self.abort()

    def abort(self) -> None:
        self._connections.forget(self)
        self.transport.abort()

    # What leaves

    def pause_writing(self) -> None:
        if self.admitted:
            self.inner.pause_writing()
        self.watch_leaving()

    def resume_writing(self) -> None:
        if self.admitted:
            self.inner.resume_writing()
        if self._looks is not None and not self.transport.is_closing():
            self._looks.cancel()
            self._looks = None

    def watch_leaving(self) -> None:
        """Give the client up once nothing of what waits for it leaves any more."""
        if self._looks is not None or self._lost:
            return
        idle_s = self._limits.idle_timeout
        last, since = self._left(), self._loop.time()

        def look() -> None:
            nonlocal last, since
            left, now = self._left(), self._loop.time()
            if left != last:
                last, since = left, now
            elif now - since >= idle_s:
                return self.abort()
            self._looks = self._loop.call_later(idle_s / _LOOKS, look)

        self._looks = self._loop.call_later(idle_s / _LOOKS, look)

    def _left(self) -> int:
        """Bytes that the client's machine has; where the system does not tell, that ours has."""
        queued = array.array("i", [0])
        with contextlib.suppress(OSError, AttributeError, ValueError):
            descriptor = self.transport.get_extra_info("socket").fileno()
            fcntl.ioctl(descriptor, termios.TIOCOUTQ, queued, True)
        return self.written - self.transport.get_write_buffer_size() - queued[0]


def connection_of(scope: MutableMapping[str, Any]) -> Connection | None:
    """Of a request; None where no server has it, as in tests."""
    return (scope.get("state") or {}).get("connection")


class _Wire:
    """The transport as inner sees it."""

    def __init__(self, connection: Connection):
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection.transport, name)

    def pause_reading(self) -> None:
        self._connection.want(False)

    def resume_reading(self) -> None:
        self._connection.want(True)

    def is_reading(self) -> bool:
        return self._connection.wants

    def set_protocol(self, protocol: asyncio.Protocol) -> None:
        self._connection.inner, self._connection.shaking_hands = protocol, True

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._connection.inner

    def write(self, data: bytes) -> None:
        self._connection.written += len(data)
        self._connection.transport.write(data)
        if self._connection.shaking_hands:
            self._connection.shaking_hands = False
            self._connection.go_on()

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))

    def close(self) -> None:
        self._connection.transport.close()
        self._connection.watch_leaving()  # what it still holds may never leave
