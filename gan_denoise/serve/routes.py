"""The routes that enhance: files, and live streams."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Coroutine
from pathlib import PurePath
from typing import Annotated, Any, BinaryIO, Literal
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, WebSocket
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from gan_denoise.enhance import Above, Denoiser
from gan_denoise.errors import InputError
from gan_denoise.serve import files, live, log, uploads
from gan_denoise.serve.connections import Share, connection_of
from gan_denoise.serve.limits import Limits, Refused
from gan_denoise.serve.state import FileAtWork, State

_SENT_AT_ONCE = 2**18  # bytes
_STRENGTH = "0: speech is spared, 0.5: balanced (without one), 1: no noise is spared"
_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}
_ANY = "application/octet-stream"


class Error(BaseModel):
    error: str


class Progress(BaseModel):
    """share: of the file that is enhanced, 0 to 1."""

    state: Literal["receiving", "waiting", "enhancing"]
    share: float


def _as_strength(denoiser: Denoiser, strength: float | None) -> float | None:
    """The strength that is meant. Raises Refused where a model takes none, and is given one."""
    try:
        return denoiser.as_strength(strength)
    except InputError as error:
        raise Refused(422, error) from error


def _names(state: State) -> tuple[Any, str]:
    """The type of a parameter that names a model, and the name that is meant without one."""
    names = tuple(state.denoisers)
    return Literal[names], names[0]


_BINARY = {"type": "string", "format": "binary"}
_FORM = {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": Error} for status in (400, 401, 403, 404, 408, 413, 415, 422, 429, 503)
}
_ANSWERS[200] = {"content": {kind: {"schema": _BINARY} for kind in (*_TYPES.values(), _ANY)}}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"multipart/form-data": {"schema": _FORM}, _ANY: {"schema": _BINARY}},
    }
}


def enhance_files(app: FastAPI, state: State) -> None:
    Name, first = _names(state)

    @app.post(
        "/v1/enhance",
        response_class=StreamingResponse,
        responses=_ANSWERS,
        openapi_extra=_BODY,
    )
    async def enhance(
        request: Request,
        mix: Annotated[
            float, Query(ge=0, le=1, description="1: enhanced only, 0: input only")
        ] = 1.0,
        high_band: Annotated[
            Above | None,
            Query(
                description="what becomes of the input above half the model's sample rate: model,"
                " where it can lower noise there, else drop; or keep"
            ),
        ] = None,
        strength: Annotated[float | None, Query(ge=0, le=1, description=_STRENGTH)] = None,
        format: Annotated[
            files.Saved | None, Query(description="of the answer; without one, as the file")
        ] = None,
        model: Annotated[
            Name,  # type: ignore[valid-type]  # models are named when the server starts
            Query(description="as /v1/models has it"),
        ] = first,
        name: Annotated[
            str, Query(max_length=255, description="the file's, where it is the body itself")
        ] = "",
        id: Annotated[
            uuid.UUID | None, Query(description="of the client's choice, for /v1/progress")
        ] = None,
    ) -> Response:
        """Enhance a file, which is the body itself or the field `file` of a form.

        It may be WAV, FLAC, OGG, Opus, MP3, M4A, MP4, WebM, AAC and others.

        The answer has its length, rate, channels and, where that can be written, its format (else
        WAV). A client that is told 429, or 503 with Retry-After, should ask again then.
        """
        entry = log.entry_of(request.scope)
        entry.id, entry.file = id or entry.id, uploads.plain_name(name)
        told = _as_strength(state.denoisers[model], strength)
        options = {"mix": mix, "high_band": high_band, "strength": told}
        with state.file(entry.id) as place:
            upload = await _receive(request, place, entry.file or "the file", state.limits)
            place.received, entry.file = True, upload.name
            work = state.workers.enhance(upload, model, options, format)
            enhanced = await _unless_gone(request, work)
            file = enhanced.path.open("rb")  # its folder goes now; what is open stays readable
        state.metrics.received("file", enhanced.audio_s)
        state.metrics.worked("file", enhanced.work_s)
        return _answer(file, upload.name, enhanced)


async def _receive(
    request: Request, place: FileAtWork, name: str, limits: Limits
) -> uploads.Upload:
    """The file that is sent, in time. Raises Refused."""
    target, limit = place.folder / "upload", limits.max_upload_mb * 2**20
    try:
        async with asyncio.timeout(limits.max_request_time):
            return await uploads.receive(request, target, name=name, limit=limit)
    except TimeoutError as error:
        late = InputError(name, f"took longer than {limits.max_request_time} s to come")
        raise Refused(408, late) from error


def tell_progress(app: FastAPI, state: State) -> None:
    def told(place: FileAtWork) -> Progress:
        share = files.progress(place.folder)
        if share is not None:
            return Progress(state="enhancing", share=share)
        return Progress(state="waiting" if place.received else "receiving", share=0.0)

    @app.get("/v1/progress/{id}", responses={status: {"model": Error} for status in (404, 422)})
    async def progress(id: uuid.UUID) -> Progress:
        """How far a request to /v1/enhance with this `id` is; 404 before and after it."""
        if id not in state.files:
            raise Refused(404, "no request with this id is running")
        return told(state.files[id])

    @app.get("/v1/progress", responses={422: {"model": Error}})
    async def progress_of_several(
        id: Annotated[list[uuid.UUID], Query(max_length=100)],
    ) -> dict[uuid.UUID, Progress]:
        """The same for several: of those that are at work."""
        return {one: told(state.files[one]) for one in id if one in state.files}


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

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    name = f"{quote(PurePath(name).stem)}_enhanced{enhanced.suffix}"
    headers = {
        "content-length": str(size),
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "x-sample-rate": str(enhanced.sample_rate),
        "x-channels": str(enhanced.channels),
        "x-frames": str(enhanced.frames),
        "x-notes": "; ".join(enhanced.notes),
    }
    return StreamingResponse(
        content(), media_type=_TYPES.get(enhanced.suffix, _ANY), headers=headers
    )


def enhance_streams(app: FastAPI, state: State) -> None:
    Name, first = _names(state)

    @app.websocket("/v1/stream")
    async def stream(
        socket: WebSocket,
        sample_rate: Annotated[int | None, Query(ge=8000, le=192000)] = None,
        format: live.Format = "s16le",
        model: Name = first,  # type: ignore[valid-type]  # as above
        strength: Annotated[float | None, Query(ge=0, le=1)] = None,
    ) -> None:
        told = _as_strength(state.denoisers[model].at_home_live, strength)
        rate = sample_rate or state.denoisers[model].sample_rate
        with state.stream(model, rate) as live_stream:
            if told is not None:
                live_stream.tell(told)
            hello = {
                "model": model,
                "sample_rate": rate,
                "format": format,
                "hop_length": max(1, live_stream.hop * rate // state.denoisers[model].sample_rate),
                "latency": state.latency(model, rate),
                "strength": told,
            }
            await socket.accept()
            connection = connection_of(socket.scope)
            share = connection.share if connection else Share()
            talk = live.Conversation(socket, live_stream, hello, state.limits, state.metrics, share)
            await talk.run()
