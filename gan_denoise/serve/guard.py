"""Who may ask: checks before any route, headers on every answer, an end to waiting."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from gan_denoise.serve.limits import Limits, Refused
from gan_denoise.serve.metrics import Metrics

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BEHIND_THE_TOKEN = (
    "/v1/",
    "/metrics",
)  # the rest holds no secret: the page, which asks for the token, and descriptions
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
    cannot set headers there. hosts: the names of this server, where there is no token.
    """

    def __init__(
        self, app, *, token: str | None, hosts: frozenset[str], limits: Limits, metrics: Metrics
    ):
        self._app, self._token, self._hosts, self._limits, self._metrics = (
            app,
            token,
            hosts,
            limits,
            metrics,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        answer = self._answers(scope, send)
        if refused := self._refuses(scope):
            return await refuse(refused, scope, receive, answer)
        if scope["type"] == "http":
            receive = self._patient(receive)
        with contextlib.suppress(_Gone):
            await self._app(scope, receive, answer)

    def _refuses(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and _hostname(host) not in self._hosts:
            return Refused(403, "this server is not known by that name: its Host is refused")
        if origin is not None and urlsplit(origin).netloc != host:
            return Refused(403, "pages of other origins are refused")
        if self._token is not None and scope["path"].startswith(_BEHIND_THE_TOKEN):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                given = ""
            if scope["type"] == "websocket" and not given:
                given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if not hmac.compare_digest(
                given.strip().encode("utf-8", "replace"), self._token.encode()
            ):
                return Refused(401, "the token is missing or wrong", WWW_Authenticate="Bearer")
        return None

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

    def _answers(self, scope: Scope, send: Send) -> Send:
        """With headers and a count; a client that takes nothing is dropped (streams: live.py)."""

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
                headers.setdefault("content-security-policy", _CLOSED)
                self._count(scope, message["status"])
            elif message["type"] == "websocket.accept":
                self._count(scope, 101)
            if scope["type"] == "websocket":
                try:
                    return await send(message)
                except RuntimeError as error:  # so uvicorn says that a broken frame has closed it
                    raise WebSocketDisconnect(1006) from error
            try:
                async with asyncio.timeout(self._limits.idle_timeout):
                    await send(message)
            except TimeoutError as error:
                raise _Gone from error

        return answer

    def _count(self, scope: Scope, status: int) -> None:
        route = scope.get("route")
        self._metrics.requests.labels(getattr(route, "path", "other"), str(status)).inc()


class _Gone(Exception):
    """The client takes nothing any more."""


async def refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request, or a WebSocket that is not accepted yet, with the error."""
    response = JSONResponse({"error": refused.message}, refused.status, refused.headers)
    await response(scope, receive, send)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
