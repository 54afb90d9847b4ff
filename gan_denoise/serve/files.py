"""Files, enhanced in worker processes: a decoder's crash or a long file leaves the rest alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from gan_denoise import audio, workers
from gan_denoise.enhance import Denoiser, enhance_file
from gan_denoise.errors import InputError
from gan_denoise.serve.limits import SAMPLE_RATES_HZ, Limits, Refused
from gan_denoise.serve.uploads import Upload

_NICENESS = 10  # live streams come first
_PROGRESS = "progress"  # a file beside the upload
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
    """Why a file was refused, with the status for it."""

    status: int
    reason: str


class Workers:
    """Processes with the models loaded. models: name -> folder, or None for those of the package.
    device: torch's.
    """

    def __init__(
        self, models: Mapping[str, Path | None], device: str, limits: Limits, *, jobs: int = 1
    ):
        self._limits = limits
        self._running: set[ProcessFuture] = set()
        self._pool = ProcessPool(
            max_workers=jobs,
            initializer=_start,
            initargs=[dict(models), device],
            context=workers.forkserver(),
        )

    @property
    def waiting(self) -> int:
        """Files whose turn has not come."""
        return sum(not future.running() for future in self._running)

    def start(self) -> None:
        self._pool.schedule(_ready)

    def stop(self) -> None:
        self._pool.stop()
        self._pool.join()

    async def enhance(self, upload: Upload, model: str, options: Mapping[str, Any]) -> Enhanced:
        """Enhance a file, into another beside it. options: of gan_denoise.enhance.enhance_file.

        Raises Refused: 413 too long, 415 no audio, 422 broken audio, 503 out of time or space.

        Cancelled, it ends the work at once.
        """
        arguments = [upload.path, model, dict(options), self._limits.max_duration]
        future = self._pool.schedule(
            _enhance, args=arguments, timeout=self._limits.max_request_time
        )
        self._running.add(future)
        try:
            outcome = await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Refused(
                503, f"{upload.name}: took longer than {self._limits.max_request_time} s"
            ) from error
        except ProcessExpired as error:
            raise Refused(
                422, f"{upload.name}: the process that read it died: is the file damaged?"
            ) from error
        except OSError as error:
            raise Refused(503, f"the server cannot store the file ({error.strerror})") from error
        finally:
            self._running.discard(future)
        if isinstance(outcome, Problem):
            raise Refused(outcome.status, outcome.reason.replace(str(upload.path), upload.name))
        return outcome


def progress(folder: Path) -> float | None:
    """The share of a file that is enhanced, 0 to 1; None before its turn."""
    try:
        return float((folder / _PROGRESS).read_text())
    except (OSError, ValueError):
        return None


def _start(models: dict[str, Path | None], device: str) -> None:
    os.nice(_NICENESS)
    torch.set_num_threads(1)
    _models.update({name: Denoiser.load(folder, device=device) for name, folder in models.items()})


def _ready() -> None:
    """Nothing; the pool starts its processes with its first task."""


def _enhance(
    source: Path, model: str, options: dict[str, Any], max_duration_s: float
) -> Enhanced | Problem:
    started = time.monotonic()
    try:
        with audio.Reader(source) as reader:
            sample_rate, channels, frames = reader.sample_rate, reader.channels, reader.frames
            target = source.with_name(f"enhanced.{reader.format.lower()}")
    except InputError as error:
        return Problem(415, str(error))
    low, high = SAMPLE_RATES_HZ
    if not low <= sample_rate <= high:
        return Problem(
            422, f"{source}: its sample rate is {sample_rate} Hz, {low} to {high} are served"
        )
    together = f" (its {channels} channels together)" if channels > 1 else ""
    too_long = Problem(413, f"{source}: longer than {max_duration_s:g} s{together}")
    longest = max_duration_s * sample_rate / channels
    if frames > longest:
        return too_long

    def watch(blocks: Iterator[np.ndarray], total: int) -> Iterator[np.ndarray]:
        nonlocal frames
        frames = 0
        for number, block in enumerate(blocks):
            (source.parent / _PROGRESS).write_text(f"{number / max(1, total):.3f}")
            frames += len(block)
            if frames > longest:  # whatever the header says
                raise _TooLong
            yield block

    try:
        notes = enhance_file(_models[model], source, target, watch=watch, **options)
    except _TooLong:
        return too_long
    except InputError as error:
        return Problem(422, str(error).replace(str(target), str(source)))
    suffix = {"WAVEX": "wav", "RF64": "wav"}.get(target.suffix[1:].upper(), target.suffix[1:])
    notes = [note.removeprefix(f"{target}: ") for note in notes]
    audio_s, work_s = frames * channels / sample_rate, time.monotonic() - started
    return Enhanced(target, f".{suffix}", sample_rate, channels, frames, audio_s, work_s, notes)


class _TooLong(Exception):
    """More samples than the limit allows."""
