"""The service as an application: what it answers about itself, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)

import gan_denoise
from gan_denoise.errors import InputError
from gan_denoise.serve import live, log, page, routes
from gan_denoise.serve.guard import Guard
from gan_denoise.serve.limits import Limits, Refused
from gan_denoise.serve.state import State
from gan_denoise.system.workers import unexpected

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_DOCS_FILES = "/docs/static"


class Model(BaseModel):
    """A model that the service offers.

    sample_rate: Hz. latency: of a live stream, in samples; null where the model has none.
    takes_strength: whether a request can say how much noise it removes.
    """

    name: str
    sample_rate: int
    latency: int | None
    takes_strength: bool
    parameters: int


class Health(BaseModel):
    status: Literal["ok"]
    version: str


def create_app(
    models: Mapping[str, Path | None],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: frozenset[str] = LOOPBACK,
    allowed: frozenset[str] = frozenset(),
    device: str = "cpu",
    jobs: int = 1,
    log_clients: bool = False,
) -> Guard:
    """The service as an ASGI application.

    models: name -> directory, or None for those of the package; the first is the default. token,
    hosts, allowed, log_clients: see Guard. device: torch's. jobs: processes that work on files.
    Raises InputError for what is no model.
    """
    torch.set_num_threads(1)  # a hop is too little to share
    state = State(models, device, limits or Limits(), jobs)
    app = FastAPIOffline(
        title="gan_denoise",
        version=gan_denoise.__version__,
        description="Speech denoising on one's own machine. OpenAPI has no words for "
        f"`WS /v1/stream?sample_rate=16000&format=s16le&model=NAME`:\n\n```\n{live.PROTOCOL}```",
        docs_url=None,
        redoc_url=None,
        static_url=_DOCS_FILES,
        lifespan=state.running,
        redirect_slashes=False,  # to the Host of the client's choice
    )
    _answer_errors(app)
    _tell(app, state)
    routes.enhance_files(app, state)
    routes.tell_progress(app, state)
    routes.enhance_streams(app, state)
    return Guard(
        app, token=token, hosts=hosts, allowed=allowed, state=state, log_clients=log_clients
    )


def _answer_errors(app: FastAPI) -> None:
    """Every error is {"error": one line}, and known to the log."""

    def answer(
        asked: HTTPConnection,
        status: int,
        error: InputError,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        log.entry_of(asked.scope).error = error
        return JSONResponse({"error": str(error)}, status, headers)

    def invalid_value(
        asked: HTTPConnection, error: RequestValidationError | WebSocketRequestValidationError
    ) -> Response:
        problem = error.errors()[0]
        return answer(asked, 422, InputError(problem["loc"][-1], problem["msg"]))

    @app.exception_handler(Refused)
    async def refused(asked: Request | WebSocket, error: Refused) -> Response | None:
        response = answer(asked, error.status, error.error, error.headers)
        if isinstance(asked, Request):
            return response
        await asked.send_denial_response(response)
        return None

    @app.exception_handler(HTTPException)
    async def http(asked: Request | WebSocket, error: HTTPException) -> Response:
        return answer(asked, error.status_code, InputError(str(error.detail)), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return invalid_value(request, error)

    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid_stream(socket: WebSocket, error: WebSocketRequestValidationError) -> None:
        await socket.send_denial_response(invalid_value(socket, error))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # for the count: nobody reads it

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        log.entry_of(request.scope).error = unexpected(error)
        return JSONResponse({"error": "an error inside the server: its log tells more"}, 500)


def _tell(app: FastAPI, state: State) -> None:
    html = page.html(state.limits)

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(html, headers={"content-security-policy": page.policy(html)})

    @app.get("/sample.flac", include_in_schema=False)
    async def sample() -> Response:
        return FileResponse(page.SAMPLE, media_type="audio/flac")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        answer = get_swagger_ui_html(
            openapi_url=str(app.openapi_url),
            title=app.title,
            oauth2_redirect_url=None,
            swagger_js_url=f"{_DOCS_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{_DOCS_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{_DOCS_FILES}/favicon.png",
        )
        answer.headers["content-security-policy"] = page.policy(
            bytes(answer.body).decode(), files="'self' 'unsafe-inline'"
        )
        return answer

    @app.get("/v1/models")
    async def list_models() -> list[Model]:
        return [
            Model(
                name=name,
                sample_rate=denoiser.sample_rate,
                latency=denoiser.live_generator.latency if denoiser.streams else None,
                takes_strength=denoiser.takes_strength,
                parameters=sum(parameter.numel() for parameter in denoiser.generator.parameters()),
            )
            for name, denoiser in state.denoisers.items()
        ]

    @app.get("/healthz", responses={503: {"model": routes.Error}})
    async def health() -> Health:
        """503 while files cannot be worked on; live streams may go on."""
        if trouble := state.trouble():
            raise Refused(503, trouble, Retry_After="5")
        return Health(status="ok", version=gan_denoise.__version__)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return PlainTextResponse(
            state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )
