"""The process that listens: uvicorn, from before the address is announced to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn

from gan_denoise.serve.connections import Connections
from gan_denoise.serve.guard import Guard
from gan_denoise.serve.live import LARGEST_MESSAGE
from gan_denoise.system.terminal import say

_GRACE_S = 5  # for requests that are at work when the server is asked to end
_FAREWELL_S = 5  # for the answers of those that are not done by then
_OURS = "ASGI callable returned without completing response."  # who takes nothing is cut off


def server(app: Guard, announcement: str) -> uvicorn.Server:
    """The server, whose `run` serves until a signal comes.

    The signal is raised again at the end, for terminal.py. `run` raises InputError and OSError
    where files cannot be stored, before it announces the service.
    """
    connections = Connections(app.state.limits)
    config = uvicorn.Config(
        app,
        http=connections.protocol,  # type: ignore[arg-type]  # called as a class would be
        lifespan="off",
        log_config=None,
        log_level="warning",
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # noise does not shrink, and what unpacks can be a bomb
        ws_ping_interval=None,  # --idle-timeout ends what is dead, and pongs may be late
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S + _FAREWELL_S,
    )
    logging.getLogger("uvicorn.error").addFilter(_ours)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # bad forms are answered
    return _Server(config, app, announcement)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Guard, announcement: str):
        super().__init__(config)
        self._app, self._announcement = app, announcement
        self._running = contextlib.AsyncExitStack()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._running.enter_async_context(self._app.state.running())
        await super().startup(sockets)
        if not self.should_exit:
            say(self._announcement)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end = asyncio.get_running_loop().call_later(_GRACE_S, self._app.end)
        try:
            await super().shutdown(sockets)
        finally:
            end.cancel()
            await self._running.aclose()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGHUP as well; under nohup it is ignored, and stays so."""
        with super().capture_signals():
            before = signal.getsignal(signal.SIGHUP)
            if threading.current_thread() is not threading.main_thread():
                yield
                return
            if before != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, before)


def _ours(record: logging.LogRecord) -> bool:
    """What a client sends amiss is no bug of ours: without a traceback."""
    if record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
    return record.msg != _OURS
