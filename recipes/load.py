#!/usr/bin/env python3
"""Measure how many live streams `gan-denoise serve` can answer in time on one core.

load.py [--streams 1,10,20,40] [--seconds 60] [--piece-ms 20] [--model DIR]

It starts the service on one core, at a free port of 127.0.0.1, and sends noise in real time from
another core if there is one. For each number of streams it prints percentiles of the time from when
a piece was due to its whole answer, the server's share of its core, and how many streams the server
refused. Then it ends by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import re
import struct
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import soundfile as sf

from gan_denoise.errors import InputError
from gan_denoise.packaged import BOXED
from gan_denoise.provenance.origin import machine
from gan_denoise.system import terminal
from gan_denoise.system.terminal import program

SAMPLE_RATE, START_S = 16000, 60.0
FRAME_BYTES = {126: struct.Struct("!H"), 127: struct.Struct("!Q")}


@program
def main() -> None:
    parser = terminal.parser(__doc__)
    parser.add_argument(
        "--streams",
        default="1,10,20,30,40,50,60",
        metavar="N,N",
        help="numbers of streams to try (default 1,10,20,30,40,50,60)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds for each number of streams (default 60)",
    )
    parser.add_argument(
        "--piece-ms",
        type=float,
        default=20.0,
        metavar="MS",
        help="length of a piece that a stream sends, in milliseconds (default 20)",
    )
    parser.add_argument(
        "--max-streams",
        type=int,
        default=1000,
        metavar="N",
        help="--max-streams of the server (default 1000, so that it refuses none)",
    )
    parser.add_argument(
        "--max-load",
        type=int,
        default=999,
        metavar="N",
        help="--max-load of the server (default 999, so that it refuses none)",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=BOXED["live"],
        metavar="DIR",
        help="a model directory (default: the packaged model live)",
    )
    measure_all(parser.parse_args())


def measure_all(arguments: argparse.Namespace) -> None:
    """Start a server on one core, and measure each number of streams from the others."""
    print(f"{machine()}; load average {os.getloadavg()[0]:.1f} at the start", flush=True)
    server = ["gan-denoise", "serve", "--port", "0", "--model", f"model={arguments.model}"]
    server += ["--max-streams", str(arguments.max_streams), "--max-load", str(arguments.max_load)]
    cores = sorted(os.sched_getaffinity(0))
    with subprocess.Popen(
        server,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores[:1]),
    ) as process:
        try:
            os.sched_setaffinity(0, cores[1:] or cores)
            port = _port(process)
            _enhance_a_file(port)  # its process has started then, and does not share the core
            print(
                "streams  refused   p50 ms   p99 ms  p99.9 ms  worst ms  server's core  load",
                flush=True,
            )
            for count in map(int, arguments.streams.split(",")):
                asyncio.run(
                    _measure(count, port, process.pid, arguments.seconds, arguments.piece_ms / 1e3)
                )
        finally:
            process.terminate()


def _port(process: subprocess.Popen) -> int:
    """Where the server listens, which is the first thing it says."""
    assert process.stderr is not None  # a pipe, as started above
    line = process.stderr.readline()
    address = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    if not address:
        raise InputError(f"the server does not start: {line.strip()}")
    return int(address[1])


def _enhance_a_file(port: int) -> None:
    file = io.BytesIO()
    sf.write(file, np.zeros(SAMPLE_RATE), SAMPLE_RATE, format="WAV")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/enhance", file.getvalue()) as answer:
        answer.read()


async def _measure(count: int, port: int, pid: int, seconds: float, piece_s: float) -> None:
    draw, loop = np.random.default_rng(0), asyncio.get_running_loop()
    streams = []
    for _ in range(count):
        _, stream = await loop.create_connection(lambda: Client(port), "127.0.0.1", port)
        streams.append(stream)
    await asyncio.gather(*(stream.opened for stream in streams))
    open_ones = [stream for stream in streams if stream.opened.result()]
    noise = (3000 * draw.standard_normal(round(SAMPLE_RATE * piece_s))).astype("<i2").tobytes()
    server = psutil.Process(pid)
    before, started = sum(server.cpu_times()[:2]), time.monotonic()
    phases = piece_s * draw.random(len(open_ones))
    await asyncio.gather(
        *(s.talk(noise, p, seconds, piece_s) for s, p in zip(open_ones, phases, strict=True))
    )
    core = (sum(server.cpu_times()[:2]) - before) / (time.monotonic() - started)
    for stream in streams:
        stream.transport.close()
    took = 1e3 * np.sort(np.concatenate([stream.took_s for stream in open_ones]))
    percentiles = [f"{np.quantile(took, share):8.1f}" for share in (0.5, 0.99, 0.999, 1.0)]
    refused, load = count - len(open_ones), os.getloadavg()[0]
    print(
        f"{count:7d} {refused:8d} {' '.join(percentiles)}  {100 * core:12.0f} %  {load:.1f}",
        flush=True,
    )


class Client(asyncio.Protocol):
    """A WebSocket that costs next to nothing, so that the server is what is measured.

    took_s: of every answered piece.
    """

    def __init__(self, port: int):
        self._port, self._data = port, bytearray()
        self._due: list[float] = []
        self.opened = asyncio.get_running_loop().create_future()
        self.took_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(bytes(16)).decode()
        transport.write(
            f"GET /v1/stream?sample_rate={SAMPLE_RATE} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self.opened.done():
            head, separator, rest = self._data.partition(b"\r\n\r\n")
            if separator:
                self.opened.set_result(head.startswith(b"HTTP/1.1 101"))
                self._data = rest
        while self.opened.done() and (size := self._frame()):
            if self._data[0] & 0x0F == 2:  # binary: an answer
                self.took_s.append(time.monotonic() - self._due[len(self.took_s)])
            del self._data[:size]

    def _frame(self) -> int:
        """Bytes of the first frame, 0 where it is not whole."""
        if len(self._data) < 2:
            return 0
        length, head = self._data[1] & 0x7F, 2
        if length in FRAME_BYTES:
            head += FRAME_BYTES[length].size
            if len(self._data) < head:
                return 0
            (length,) = FRAME_BYTES[length].unpack_from(self._data, 2)
        return head + length if len(self._data) >= head + length else 0

    async def talk(self, samples: bytes, phase_s: float, seconds: float, piece_s: float) -> None:
        frame = (
            struct.pack("!BBHI", 0x82, 0x80 | 126, len(samples), 0) + samples
        )  # a mask of zeros masks nothing
        started = time.monotonic() + phase_s
        for number in range(round(seconds / piece_s)):
            due = started + number * piece_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if self.transport.is_closing():
                raise InputError("the server has ended a stream")
            self._due.append(due)
            self.transport.write(frame)
        ends = time.monotonic() + START_S
        while len(self.took_s) < len(self._due) and time.monotonic() < ends:
            await asyncio.sleep(piece_s)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(False)


if __name__ == "__main__":
    main()
