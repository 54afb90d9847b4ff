"""Files, enhanced in worker processes: a decoder's crash or a long file leaves the rest alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile as sf
import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from gan_denoise import audio
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.serve.limits import SAMPLE_RATES_HZ, Limits, Refused
from gan_denoise.serve.uploads import Upload
from gan_denoise.system import workers
from gan_denoise.system.family import follow_the_parent
from gan_denoise.system.files import write_atomically

_NICENESS = 10  # live streams come first
_PROGRESS = "progress"  # a file beside the upload
Saved = Literal["wav-16", "wav-24", "wav-float", "flac-16", "flac-24"]
_SAVED = {  # container and subtype, in libsndfile's words
    "wav-16": ("WAV", "PCM_16"),
    "wav-24": ("WAV", "PCM_24"),
    "wav-float": ("WAV", "FLOAT"),
    "flac-16": ("FLAC", "PCM_16"),
    "flac-24": ("FLAC", "PCM_24"),
}
_TRIES = 3  # of a file whose process somebody ends
_models: dict[str, Denoiser] = {}  # of a worker process


@dataclass(frozen=True)
class Enhanced:
    """A file that is done.

    suffix: of its format. frames: samples of each channel. audio_s: of all channels. work_s: spent.
    """

    path: Path
    suffix: str
    sample_rate: int
    channels: int
    frames: int
    audio_s: float
    work_s: float
    notes: list[str]


@dataclass(frozen=True)
class Problem:
    """Why a file was refused, with the status for it; the error knows its path, not its name."""

    status: int
    error: InputError

    def of(self, name: str) -> Refused:
        """The same of the client's file."""
        return Refused(self.status, InputError(name, self.error.problem, self.error.remedy))


class Workers:
    """Processes that have the models loaded.

    The models come from this process and not from their folders, which may have changed. device:
    torch's. Where all processes die idle, for example for want of memory, pebble's pool is broken,
    and `mend` makes another one.
    """

    def __init__(
        self, models: Mapping[str, Denoiser], device: str, limits: Limits, *, jobs: int = 1
    ):
        packed = {name: denoiser.packed() for name, denoiser in models.items()}
        self._limits, self._jobs, self._for_each = limits, jobs, [packed, device]
        self._running: set[ProcessFuture] = set()
        self._pool, self._started, self.restarts = self._made(), False, 0
        self._mending = asyncio.Lock()

    def _made(self) -> ProcessPool:
        workers.preload(__name__)  # and torch: a process that begins anew need not wait for it
        return ProcessPool(
            max_workers=self._jobs,
            initializer=_start,
            initargs=self._for_each,
            context=workers.forkserver(),
        )

    @property
    def well(self) -> bool:
        """Whether files can be worked on, soon where the processes are being started."""
        return not self._started or self._pool.active

    @property
    def waiting(self) -> int:
        """Files whose turn has not come."""
        return sum(not future.running() for future in self._running)

    async def start(self) -> None:
        """Takes as long as a process takes to import torch."""
        async with self._mending:
            with contextlib.suppress(BrokenProcessPool):  # `mend` makes another
                await asyncio.to_thread(self._pool.schedule, _ready)
            self._started = True

    async def mend(self) -> None:
        """Start new processes where the old ones have died.

        Raises BrokenProcessPool where the new ones die as well.
        """
        async with self._mending:
            if not self._pool.active:
                try:
                    await asyncio.to_thread(self._replace)
                except (OSError, EOFError) as error:  # no process can be started
                    raise BrokenProcessPool from error
                self.restarts += 1

    def _replace(self) -> None:
        self.stop()
        pool = self._made()
        try:
            pool.schedule(_ready).result()
        except BaseException:
            pool.stop()
            pool.join()
            raise
        self._pool = pool

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()

    async def enhance(
        self,
        upload: Upload,
        model: str,
        options: Mapping[str, Any],
        saved: Saved | None = None,
    ) -> Enhanced:
        """Enhance a file, into another beside it.

        options: of gan_denoise.enhance.enhance_file. saved: in which format; None keeps that of the
        upload.

        Raises Refused: 413 too long, 415 no audio, 422 broken audio, 503 out of time or space, or
        its process is ended again and again. A cancelled call ends the work at once.
        """
        for _ in range(_TRIES):
            try:
                await self.mend()
                return await self._try([upload.path, model, dict(options), saved], upload.name)
            except (BrokenProcessPool, _Killed):
                continue
        raise Refused(
            503,
            InputError(
                upload.name,
                f"the process that worked on it was ended, {_TRIES} times",
                "is the memory of this server full?",
            ),
            Retry_After="30",
        )

    async def _try(self, work: list[Any], name: str) -> Enhanced:
        arguments = [*work, self._limits]
        try:
            future = self._pool.schedule(
                _enhance, args=arguments, timeout=self._limits.max_request_time
            )
        except RuntimeError as error:  # it broke since `mend` looked
            raise BrokenProcessPool from error
        self._running.add(future)
        try:
            outcome = await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Refused(
                503, InputError(name, f"took longer than {self._limits.max_request_time} s")
            ) from error
        except ProcessExpired as error:
            if workers.was_killed(error):
                raise _Killed from error
            raise Refused(
                422,
                InputError(name, "the process that read it died", "is the file damaged?"),
            ) from error
        except OSError as error:
            raise Refused(503, f"the server cannot store the file ({error.strerror})") from error
        finally:
            self._running.discard(future)
        if isinstance(outcome, Problem):
            raise outcome.of(name)
        return outcome


def progress(folder: Path) -> float | None:
    """The share of a file that is enhanced, 0 to 1; None before its turn."""
    try:
        return float((folder / _PROGRESS).read_text())
    except (OSError, ValueError):
        return None


def tell_progress(folder: Path, share: float) -> None:
    """For `progress`, which may ask at any moment."""
    write_atomically(folder / _PROGRESS, f"{share:.3f}")


def _start(models: dict[str, tuple], device: str) -> None:
    follow_the_parent(os.getppid())  # the forkserver, which follows the service: no orphans
    os.nice(_NICENESS)
    torch.set_num_threads(1)
    _models.update(
        {name: Denoiser.unpack(*packed, device=device) for name, packed in models.items()}
    )


def _ready() -> None:
    """Nothing; the pool starts its processes with its first task."""


def _enhance(
    source: Path,
    model: str,
    options: dict[str, Any],
    saved: Saved | None,
    limits: Limits,
) -> Enhanced | Problem:
    started = time.monotonic()
    source.stat()  # an OSError, where the folder was cleaned away
    try:
        with audio.Reader(source) as reader:
            sample_rate, channels, frames = reader.sample_rate, reader.channels, reader.frames
            # What libsndfile only reads, or FFmpeg alone (M4A, WebM), comes back as WAV
            kind = reader.format if reader.format in sf.available_formats() else "WAV"
            kind, subtype = _SAVED.get(saved or "", (kind, None))
            target = source.with_name(f"enhanced.{kind.lower()}")
    except InputError as error:
        return Problem(415, error.at(source))
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate <= high:
        unserved = f"its sample rate is {sample_rate} Hz, {low} to {high} are served"
        return Problem(422, InputError(source, unserved))
    if channels > limits.max_channels:  # linked channels cost the square of their number
        several = f"has {channels} channels, {limits.max_channels} at most are served"
        return Problem(422, InputError(source, several, "split them"))
    together = f" (its {channels} channels together)" if channels > 1 else ""
    too_long = Problem(413, InputError(source, f"longer than {limits.max_duration} s{together}"))
    longest = limits.max_duration * sample_rate / channels
    if max(frames, sample_rate) > longest:  # each channel costs a second's work at least
        return too_long

    def watch(blocks: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
        nonlocal frames
        frames = 0
        for number, block in enumerate(blocks):
            tell_progress(source.parent, number / max(1, total))
            frames += len(block)
            if frames > longest:  # whatever the header says
                raise _TooLong
            yield block

    try:
        notes = enhance_file(
            _models[model], source, target, subtype=subtype, watch=watch, **options
        )
    except _TooLong:
        return too_long
    except InputError as error:
        return Problem(422, error.at(source, target))
    suffix = {"WAVEX": "wav", "RF64": "wav"}.get(target.suffix[1:].upper(), target.suffix[1:])
    notes = [note.removeprefix(f"{target}: ") for note in notes]
    audio_s, work_s = frames * channels / sample_rate, time.monotonic() - started
    return Enhanced(target, f".{suffix}", sample_rate, channels, frames, audio_s, work_s, notes)


class _Killed(Exception):
    """Somebody ended the process: the file is not to blame."""


class _TooLong(Exception):
    """More samples than the limit allows."""
