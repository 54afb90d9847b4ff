"""The WebSocket: raw samples in, as many enhanced samples out.

    server  {"model": "boxed", "sample_rate": 16000, "format": "s16le",
             "hop_length": 256, "latency": 512, "strength": 0.5}
    client  binary: any number of samples
    server  binary: those that are finished by now, perhaps none; one answer each
    client  text: strength 0.8      (0 to 1, from now on; no answer)
    client  text: end
    server  binary: the rest; then it closes (1000)

Where something is wrong, the server says {"error": ...} and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from gan_denoise.errors import InputError
from gan_denoise.serve import log
from gan_denoise.serve.batching import LiveStream
from gan_denoise.serve.connections import Share
from gan_denoise.serve.limits import Limits
from gan_denoise.serve.metrics import Metrics

PROTOCOL = __doc__
LARGEST_MESSAGE = 2**20  # bytes
END, STRENGTH = "end", "strength"
_FAREWELL_S = 1.0  # for a last message to a client that may take none
_MESSAGE_S, _SAMPLE_S = 5e-5, 2e-8  # what they cost, beside the step that all streams share
_FULL_SCALE = np.float32(32768.0)


def _from_s16le(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<i2").astype(np.float32) / _FULL_SCALE


def _to_s16le(samples: np.ndarray) -> bytes:
    return np.rint(samples * _FULL_SCALE).clip(-32768, 32767).astype("<i2").tobytes()


# name: (bytes of a sample, from bytes to float32, back)
Format = Literal["s16le", "f32le"]
FORMATS: dict[Format, tuple[int, Callable[[bytes], np.ndarray], Callable[[np.ndarray], bytes]]] = {
    "s16le": (2, _from_s16le, _to_s16le),
    "f32le": (
        4,
        lambda content: np.frombuffer(content, "<f4").astype(np.float32),
        lambda samples: samples.astype("<f4").tobytes(),
    ),
}


def _number(text: str) -> float | str:
    """What no number is, is refused as a strength."""
    try:
        return float(text)
    except ValueError:
        return text


class Broken(Exception):
    """The stream ends with a message and a WebSocket's close code."""

    def __init__(self, code: int, error: InputError | str):
        super().__init__(error)
        self.code = code
        self.error = error if isinstance(error, InputError) else InputError(error)


class Conversation:
    """One live stream, from the hello to the end, on a WebSocket that is accepted."""

    def __init__(
        self,
        socket: WebSocket,
        stream: LiveStream,
        hello: dict[str, Any],
        limits: Limits,
        metrics: Metrics,
        share: Share,
    ):
        self._socket, self._stream, self._hello = socket, stream, hello
        self._limits, self._metrics, self._share = limits, metrics, share
        self._width, self._decode, self._encode = FORMATS[hello["format"]]
        self._moved = self._began = time.monotonic()

    async def run(self) -> None:
        """To the end, whoever makes it."""
        talk = asyncio.ensure_future(self._talk())
        try:
            await self._end(await self._watch(talk))
        except WebSocketDisconnect:
            pass
        finally:
            talk.cancel()

    async def _end(self, error: Broken | None) -> None:
        if error:
            log.entry_of(self._socket.scope).error = error.error
        with contextlib.suppress(TimeoutError):  # the connection gives up who takes nothing
            async with asyncio.timeout(_FAREWELL_S):
                await self._say(error)

    async def _say(self, error: Broken | None) -> None:
        if error:
            await self._socket.send_text(json.dumps({"error": str(error.error)}))
        await self._socket.close(error.code if error else 1000)

    async def _watch(self, talk: asyncio.Task[None]) -> Broken | None:
        """Look now and then whether anything moves: a timer a message would cost too much."""
        limits = self._limits
        while True:
            ends = min(self._moved + limits.idle_timeout, self._began + limits.max_stream_time)
            left_s = ends - time.monotonic()
            if left_s <= 0:
                idle = time.monotonic() - self._moved >= limits.idle_timeout
                return Broken(
                    1008,
                    f"nothing moved for {limits.idle_timeout} s"
                    if idle
                    else "this is as long as a stream may last",
                )
            await asyncio.wait([talk], timeout=left_s)
            if talk.done():
                try:
                    return talk.result()
                except Broken as error:
                    return error

    async def _talk(self) -> None:
        await self._socket.send_text(json.dumps(self._hello))
        while True:
            await asyncio.sleep(self._share.spend(_MESSAGE_S))  # at least the others' turn
            message = await self._socket.receive()
            self._moved, came = time.monotonic(), time.perf_counter()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            content = message.get("bytes")
            try:
                if content is None:
                    word, _, value = str(message.get("text")).partition(" ")
                    if word == STRENGTH:
                        self._stream.tell(_number(value))
                        continue
                    if word != END or value:
                        raise Broken(
                            1003,
                            "expected binary messages of samples, or the text"
                            f" {END!r} or '{STRENGTH} 0.5'",
                        )
                    return await self._send(await self._stream.flush())
                if len(content) % self._width:
                    kind = self._hello["format"]
                    raise Broken(
                        1007,
                        f"a message of {len(content)} bytes is not a whole number of"
                        f" {kind} samples",
                    )
                samples = self._decode(content)
                finished = await self._stream.push(samples)
            except InputError as error:
                raise Broken(1007, error) from error
            await self._send(finished)
            self._metrics.answer.observe(time.perf_counter() - came)
            self._metrics.received("stream", len(samples) / self._hello["sample_rate"])
            self._share.spend(len(samples) * _SAMPLE_S)

    async def _send(self, samples: np.ndarray) -> None:
        """Meanwhile the connection judges whether anything moves (connections.py)."""
        self._moved = math.inf
        await self._socket.send_bytes(self._encode(samples))
        self._moved = time.monotonic()
