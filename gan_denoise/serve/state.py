"""What the routes share while the service runs: models, live streams, files at work."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from gan_denoise.enhance import Denoiser
from gan_denoise.errors import InputError
from gan_denoise.serve import uploads
from gan_denoise.serve.batching import Batch, LiveStream, latency
from gan_denoise.serve.busy import Busy
from gan_denoise.serve.files import Workers
from gan_denoise.serve.limits import LATER, Limits, Refused
from gan_denoise.serve.metrics import Metrics
from gan_denoise.system.terminal import say

_LOOKS_EVERY_S = 1.0


@dataclass
class FileAtWork:
    """folder: private, gone with the request. received: the body is here."""

    folder: Path
    received: bool = False


class State:
    """What the parts of the service share.

    models: name -> folder, or None for those of the package: "files" for files, "live" for streams.
    jobs: processes for files. Raises InputError for what is no model.
    """

    def __init__(self, models: Mapping[str, Path | None], device: str, limits: Limits, jobs: int):
        self.limits, self.metrics = limits, Metrics()
        self.denoisers = {
            name: Denoiser.load(folder, device=device) for name, folder in models.items()
        }
        self.workers = Workers(self.denoisers, device, limits, jobs=jobs)
        self._batches = {
            name: Batch(
                denoiser, limits.max_streams, lambda seconds: self.metrics.worked("stream", seconds)
            )
            for name, denoiser in self.denoisers.items()
            if denoiser.streams
        }
        self.latency: Callable[[str, int], int] = lru_cache(
            lambda name, rate: latency(self.denoisers[name], rate)
        )
        self.files: dict[uuid.UUID, FileAtWork] = {}
        self._streams, self._folder, self._busy = 0, uploads.PrivateFolder(), Busy()
        self.metrics.busy.set_function(lambda: self._busy.share)
        self.metrics.streams.set_function(lambda: self._streams)
        self.metrics.files.set_function(lambda: len(self.files))
        self.metrics.queue.set_function(lambda: self.workers.waiting)
        self.metrics.ready.set_function(lambda: self.trouble() is None)
        self.metrics.restarts.set_function(lambda: self.workers.restarts)

    @contextlib.asynccontextmanager
    async def running(self, _: object = None) -> AsyncIterator[None]:
        """The service's lifespan. Raises InputError and OSError where files cannot be stored."""
        with self._folder:
            start = asyncio.ensure_future(self.workers.start())
            care = asyncio.ensure_future(self._look_after())
            try:
                async with self._busy.watching():
                    yield
            finally:
                care.cancel()
                await start
                await asyncio.to_thread(self.workers.stop)

    def trouble(self) -> str | None:
        """Why files cannot be worked on now."""
        try:
            self._folder.check()
        except (InputError, OSError) as error:
            return f"the server cannot store files ({getattr(error, 'strerror', error)})"
        if not self.workers.well:
            return "the processes that work on files have died, and others are being started"
        return None

    async def _look_after(self) -> None:
        """Mend what is broken, and say so once."""
        said = None
        while True:
            trouble = self.trouble()
            if trouble != said:
                say(f"serve: {trouble}" if trouble else "serve: files can be worked on again")
                said = trouble
            with contextlib.suppress(BrokenProcessPool):
                await self.workers.mend()
            await asyncio.sleep(_LOOKS_EVERY_S)

    @contextlib.contextmanager
    def file(self, key: uuid.UUID) -> Iterator[FileAtWork]:
        """A place for a file. Raises Refused when there are too many, or the key is in use."""
        if len(self.files) >= self.limits.max_files:
            many = InputError("too many files at once", remedy=LATER)
            raise Refused(429, many, Retry_After="5")
        if key in self.files:
            raise Refused(422, InputError("id", "a request with this id is running"))
        try:
            self._folder.check()
            folder = self._folder.path / key.hex
            folder.mkdir(mode=0o700)
            self.files[key] = FileAtWork(folder)
            try:
                yield self.files[key]
            finally:
                del self.files[key]
                shutil.rmtree(folder, ignore_errors=True)
        except (InputError, OSError) as error:
            reason = getattr(error, "strerror", error)
            raise Refused(503, f"the server cannot store the file ({reason})") from error

    @contextlib.contextmanager
    def stream(self, model: str, sample_rate: int) -> Iterator[LiveStream]:
        """A live stream. Raises Refused when there are too many, or the model does not stream."""
        if model not in self._batches:
            raise Refused(
                422, InputError("model", f"{model} looks into the future and cannot stream")
            )
        busy = 100 * self._busy.share > self.limits.max_load
        if busy or self._streams >= self.limits.max_streams:
            reason = "this machine is busy" if busy else "all live streams are taken"
            raise Refused(503, InputError(reason, remedy=LATER), Retry_After="5")
        stream = LiveStream(self._batches[model], sample_rate)
        self._streams += 1
        try:
            yield stream
        finally:
            self._streams -= 1
            stream.close()
