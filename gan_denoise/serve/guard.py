"""Who may ask: checks before any route, headers on every answer, an end to waiting."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from gan_denoise.errors import InputError
from gan_denoise.serve import log
from gan_denoise.serve.connections import connection_of
from gan_denoise.serve.limits import LATER, Refused
from gan_denoise.serve.state import State

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BEHIND_THE_TOKEN = (
    "/v1/",
    "/metrics",
)  # the rest holds no secret: the page, which asks for the token, and descriptions
_ABSOLUTE = ("http://", "https://")
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_CLOSED = "default-src 'none'; frame-ancestors 'none'"


class Guard:
    """ASGI middleware around the whole service.

    A browser's foreign page is refused by its Origin; by the Host too where there is no token,
    since a foreign name may be made to point here (DNS rebinding). token: asked for by what works
    and tells, as `Authorization: Bearer TOKEN`, on the WebSocket also as `?token=`, for browsers
    cannot set headers there. hosts: the names of this server, where there is no token. allowed:
    further names, under which a proxy offers it. log_clients: name them in the log.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        token: str | None,
        hosts: frozenset[str],
        allowed: frozenset[str],
        state: State,
        log_clients: bool = False,
    ):
        self._app, self._hosts, self._allowed = app, hosts | allowed, allowed
        self._token = None if token is None else token.encode()
        self.state, self._limits, self._metrics = state, state.limits, state.metrics
        self._at_work, self._ending = set[asyncio.Task](), False
        self._log_clients = log_clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope.get("method") == "HEAD":  # the server leaves out the body
            scope = {**scope, "method": "GET"}
        if scope["path"].lower().startswith(_ABSOLUTE):  # as to a proxy (RFC 9112, section 3.2.2)
            path = _path_of(scope["path"])
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        connection = connection_of(scope)
        if connection:
            connection.asked()
        entry, answer = log.enter(scope), self._answers(scope, send)
        try:
            if refused := self._refuses(scope):
                await refuse(refused, scope, receive, answer)
            elif scope["type"] == "http":
                await self._http(scope, self._patient(receive), answer)
            else:
                await self._app(scope, receive, answer)
        finally:
            log.write(entry, scope, clients=self._log_clients)
            if connection and scope["type"] == "http":
                connection.answered()

    async def _http(self, scope: Scope, receive: Receive, answer: Answer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            if not answer.begun:
                ending = InputError("this server is ending", remedy=LATER)
                late = Refused(503, ending, Retry_After="5")
                await refuse(late, scope, receive, answer)
        finally:
            self._at_work.discard(task)

    def end(self) -> None:
        """Requests that are still at work are answered that the server ends."""
        self._ending = True
        for task in self._at_work:
            task.cancel()

    def _refuses(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and _parts(f"//{host}")[1] not in self._hosts:
            unknown = InputError(
                "this server is not known by that name, so its Host is refused",
                remedy="start it with --allow-host NAME or a --token",
            )
            return Refused(403, unknown)
        if origin is not None and not self._is_ours(origin, host):
            foreign = InputError(
                "requests from pages of other origins are refused",
                remedy="a proxy must pass on the Host (nginx: proxy_set_header Host $http_host), or"
                " start the server with --allow-host NAME",
            )
            return Refused(403, foreign)
        if self._token is not None and scope["path"].startswith(_BEHIND_THE_TOKEN):
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                token = ""
            from_query = scope["type"] == "websocket" and not token
            if from_query:
                token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            # A header's bytes, in whatever letters
            code = "utf-8" if from_query else "latin-1"
            if not hmac.compare_digest(token.strip().encode(code, "replace"), self._token):
                return Refused(401, "the token is missing or wrong", WWW_Authenticate="Bearer")
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        netloc, name = _parts(origin)
        return bool(netloc) and netloc == host or name in self._allowed

    def _patient(self, receive: Receive) -> Receive:
        """A body that stops coming ends its request; to wait for the answer is not idle."""
        body_ended = False

        async def patient() -> MutableMapping[str, Any]:
            nonlocal body_ended
            try:
                async with asyncio.timeout(None if body_ended else self._limits.idle_timeout):
                    message = await receive()
            except TimeoutError as error:
                raise Refused(408, f"nothing came for {self._limits.idle_timeout} s") from error
            body_ended = not message.get("more_body", False)
            return message

        return patient

    def _answers(self, scope: Scope, send: Send) -> Answer:
        """With headers and a count."""

        async def checked(message: MutableMapping[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", _CLOSED)
                headers.setdefault("x-request-id", str(log.entry_of(scope).id))
                self._count(scope, message["status"])
            elif message["type"] == "websocket.accept":
                self._count(scope, 101)
            try:
                await send(message)
            except RuntimeError as error:  # so uvicorn says that a broken frame has closed it
                if scope["type"] != "websocket":
                    raise
                raise WebSocketDisconnect(1006) from error

        return Answer(checked)

    def _count(self, scope: Scope, status: int) -> None:
        log.entry_of(scope).status = status
        route = scope.get("route")
        self._metrics.requests.labels(getattr(route, "path", "other"), str(status)).inc()


class Answer:
    """How an answer is sent. begun: whether any of it was."""

    def __init__(self, send: Send):
        self._send, self.begun = send, False

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.begun = True
        await self._send(message)


async def refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket that is not accepted yet, with the error."""
    log.entry_of(scope).error = refused.error
    response = JSONResponse({"error": refused.message}, refused.status, refused.headers)
    await response(scope, receive, send)


def _path_of(target: str) -> str:
    """Of a request target with scheme and host, which the Host names too."""
    return "/" + target.partition("://")[2].partition("/")[2]


def _parts(address: str) -> tuple[str, str]:
    """The name with its port, and without; nothing for what is no address."""
    try:
        parts = urlsplit(address)
        return parts.netloc, parts.hostname or ""
    except ValueError:
        return "", ""
