"""The routes of the service."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path, PurePath
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

import torch
from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)

import gan_denoise
from gan_denoise.enhance import HIGH_BAND
from gan_denoise.serve import files, live, page, uploads
from gan_denoise.serve.guard import Guard
from gan_denoise.serve.limits import Limits, Refused
from gan_denoise.serve.state import State

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_DOCS_FILES = "/docs/static"
_SENT_AT_ONCE = 2**18  # bytes
_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
_ANY = "application/octet-stream"


class Error(BaseModel):
    error: str


class Model(BaseModel):
    """sample_rate: Hz. latency: samples at that rate that a live stream is behind; null where the model does not stream."""

    name: str
    sample_rate: int
    latency: int | None
    parameters: int


class Health(BaseModel):
    status: Literal["ok"]
    version: str


class Progress(BaseModel):
    """share: of the file that is enhanced, 0 to 1."""

    state: Literal["receiving", "waiting", "enhancing"]
    share: float


def create_app(
    models: Mapping[str, Path],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: frozenset[str] = LOOPBACK,
    device: str = "cpu",
    jobs: int = 1,
) -> Guard:
    """The service as an ASGI application. models: name -> model directory; the first is the default.

    token, hosts: see Guard. device: torch's. jobs: processes that work on files. Raises InputError for what is no model.
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
    )
    _answer_errors(app)
    _tell(app, state)
    _enhance_files(app, state)
    _enhance_streams(app, state)
    return Guard(app, token=token, hosts=hosts, limits=state.limits, metrics=state.metrics)


def _answer_errors(app: FastAPI) -> None:
    """Every error is {"error": one line}."""

    def first(error: RequestValidationError | WebSocketRequestValidationError) -> Response:
        problem = error.errors()[0]
        return JSONResponse({"error": f"{problem['loc'][-1]}: {problem['msg']}"}, 422)

    @app.exception_handler(Refused)
    async def refused(asked: Request | WebSocket, error: Refused) -> Response | None:
        response = JSONResponse({"error": error.message}, error.status, error.headers)
        return (
            response if isinstance(asked, Request) else await asked.send_denial_response(response)
        )

    @app.exception_handler(HTTPException)
    async def http(asked: Request | WebSocket, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return first(error)

    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid_stream(socket: WebSocket, error: WebSocketRequestValidationError) -> None:
        await socket.send_denial_response(first(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # for the count: nobody reads it

    @app.exception_handler(Exception)
    async def bug(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "an error inside the server: its log tells more"}, 500)


def _tell(app: FastAPI, state: State) -> None:
    html = page.html()

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return HTMLResponse(html, headers={"content-security-policy": page.policy(html)})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        names = {
            "swagger_js_url": "swagger-ui-bundle.js",
            "swagger_css_url": "swagger-ui.css",
            "swagger_favicon_url": "favicon.png",
        }
        files = {what: f"{_DOCS_FILES}/{name}" for what, name in names.items()}
        answer = get_swagger_ui_html(
            openapi_url=app.openapi_url, title=app.title, oauth2_redirect_url=None, **files
        )
        answer.headers["content-security-policy"] = page.policy(
            answer.body.decode(), files="'self' 'unsafe-inline'"
        )
        return answer

    @app.get("/v1/models")
    async def list_models() -> list[Model]:
        return [
            Model(
                name=name,
                sample_rate=denoiser.sample_rate,
                latency=denoiser.generator.latency if denoiser.streams else None,
                parameters=sum(parameter.numel() for parameter in denoiser.generator.parameters()),
            )
            for name, denoiser in state.denoisers.items()
        ]

    @app.get("/healthz")
    async def health() -> Health:
        return Health(status="ok", version=gan_denoise.__version__)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return PlainTextResponse(
            state.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _enhance_files(app: FastAPI, state: State) -> None:
    limits, binary = state.limits, {"type": "string", "format": "binary"}
    form = {"type": "object", "required": ["file"], "properties": {"file": binary}}
    errors = {
        status: {"model": Error} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
    }

    @app.post(
        "/v1/enhance",
        response_class=StreamingResponse,
        responses={
            **errors,
            200: {"content": {kind: {"schema": binary} for kind in (*_TYPES.values(), _ANY)}},
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"multipart/form-data": {"schema": form}, _ANY: {"schema": binary}},
            }
        },
    )
    async def enhance(
        request: Request,
        mix: Annotated[
            float, Query(ge=0, le=1, description="1: enhanced only, 0: input only")
        ] = 1.0,
        high_band: Annotated[
            Literal[HIGH_BAND],
            Query(description="what becomes of the input above half the model's sample rate"),
        ] = HIGH_BAND[0],
        model: Annotated[
            Literal[tuple(state.denoisers)], Query(description="as /v1/models has it")
        ] = next(iter(state.denoisers)),
        name: Annotated[
            str, Query(max_length=255, description="the file's, where it is the body itself")
        ] = "",
        id: Annotated[
            uuid.UUID | None, Query(description="of the client's choice, for /v1/progress")
        ] = None,
    ) -> Response:
        """Enhance a file: the body itself, or the field `file` of a form. The answer has its format, length, rate and channels."""
        name = uploads.plain_name(name) or "the file"
        with state.file(id or uuid.uuid4()) as place:
            try:
                async with asyncio.timeout(limits.max_request_time):
                    target, limit = place.folder / "upload", limits.max_upload_mb * 2**20
                    upload = await uploads.receive(request, target, name=name, limit=limit)
                    place.received = True
                    work = state.workers.enhance(upload, model, mix=mix, high_band=high_band)
                    enhanced = await _unless_gone(request, work)
            except TimeoutError as error:
                raise Refused(
                    503, f"{name}: took longer than {limits.max_request_time} s"
                ) from error
            file = open(enhanced.path, "rb")  # its folder goes now; what is open stays readable
        state.metrics.heard("file", enhanced.audio_s)
        state.metrics.worked("file", enhanced.work_s)
        return _answer(file, upload.name, enhanced)

    @app.get("/v1/progress/{id}", responses={status: {"model": Error} for status in (404, 422)})
    async def progress(id: uuid.UUID) -> Progress:
        """How far a request to /v1/enhance with this `id` is; 404 before and after it."""
        if id not in state.files:
            raise Refused(404, "no request with this id is at work")
        place = state.files[id]
        share = files.progress(place.folder)
        waits = "waiting" if place.received else "receiving"
        return Progress(state=waits if share is None else "enhancing", share=share or 0.0)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's result. A client that leaves meanwhile ends it: raises ClientDisconnect."""
    task, left = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for future in (task, left):
            future.cancel()
        await asyncio.wait([task, left])


def _answer(file: BinaryIO, name: str, enhanced: files.Enhanced) -> Response:
    async def content() -> AsyncIterator[bytes]:
        with file:
            while piece := await asyncio.to_thread(file.read, _SENT_AT_ONCE):
                yield piece

    size = file.seek(0, 2)
    file.seek(0)
    headers = {
        "content-length": str(size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(PurePath(name).stem)}_enhanced{enhanced.suffix}",
        "x-sample-rate": str(enhanced.sample_rate),
        "x-channels": str(enhanced.channels),
        "x-frames": str(enhanced.frames),
        "x-clipped-samples": str(enhanced.clipped),
    }
    return StreamingResponse(
        content(), media_type=_TYPES.get(enhanced.suffix, _ANY), headers=headers
    )


def _enhance_streams(app: FastAPI, state: State) -> None:
    @app.websocket("/v1/stream")
    async def stream(
        socket: WebSocket,
        sample_rate: Annotated[int | None, Query(ge=8000, le=192000)] = None,
        format: Literal[tuple(live.FORMATS)] = "s16le",
        model: Literal[tuple(state.denoisers)] = next(iter(state.denoisers)),
    ) -> None:
        rate = sample_rate or state.denoisers[model].sample_rate
        with state.stream(model, rate) as own:
            hello = {
                "model": model,
                "sample_rate": rate,
                "format": format,
                "hop_length": max(1, own.hop * rate // state.denoisers[model].sample_rate),
                "latency": state.latency(model, rate),
            }
            await socket.accept()
            await live.Conversation(socket, own, hello, state.limits, state.metrics).run()
