"""Raw mono s16le between two pipes: what `gan-denoise stream` does."""

from __future__ import annotations

import os
import time

import numpy as np

from gan_denoise.enhance import Denoiser
from gan_denoise.terminal import say

FULL_SCALE = 32768.0


def live(denoiser: Denoiser, sample_rate: int, source: int, target: int) -> int:
    """Enhance what comes from the file descriptor `source` into `target`, hop by hop, until it
    ends; then say how fast it was.

    sample_rate: Hz, of both. Returns the exit status: 0, or 141 where the reader of `target` went
    away. Raises InputError for a model that does not stream.
    """
    stream, meter, odd = denoiser.stream(sample_rate), Meter(denoiser, sample_rate), b""
    # What runs for the first time takes longer
    stream.push(np.zeros((4 * meter.hop, 1), dtype=np.float32))
    stream.flush()
    try:
        while content := os.read(source, 2 * meter.hop - len(odd)):
            content = odd + content
            samples = np.frombuffer(content, dtype="<i2", count=len(content) // 2)
            odd = content[2 * len(samples) :]
            _write(
                target,
                meter.timed(
                    stream.push, samples.astype(np.float32)[:, None] / np.float32(FULL_SCALE)
                ),
            )
        _write(target, meter.timed(stream.flush))
        if odd:
            say("note: the input ended within a sample: its last byte is left out")
        return 0
    except BrokenPipeError:
        # Nothing more goes there, or Python complains at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), target)
        return 141
    finally:
        say(meter.summary())


def _write(target: int, samples: np.ndarray) -> None:
    content = memoryview(samples.astype("<i2").tobytes())
    while content:
        content = content[os.write(target, content) :]


class Meter:
    """Time spent and time heard. hop: the model's own, in samples at `sample_rate`."""

    def __init__(self, denoiser: Denoiser, sample_rate: int):
        self._model_latency, self._model_rate = denoiser.generator.latency, denoiser.sample_rate
        self._rate = sample_rate
        self.hop = max(1, denoiser.generator.hop_length * sample_rate // denoiser.sample_rate)
        self._heard = self._said = self._behind = self._clipped = 0
        self._spent_s = self._worst_s = 0.0

    def timed(self, work, *samples: np.ndarray) -> np.ndarray:
        """Call work(samples) or, at the end, work(): the finished samples (n,), scaled to s16 and
        within its range.
        """
        for piece in samples:
            self._heard += len(piece)
            self._behind = max(self._behind, self._heard - self._said)
        started = time.perf_counter()
        finished = np.rint(work(*samples)[:, 0] * FULL_SCALE)
        took_s = time.perf_counter() - started
        self._spent_s += took_s
        self._worst_s = max(self._worst_s, took_s if samples else 0.0)
        self._said += len(finished)
        clipped = finished.clip(-FULL_SCALE, FULL_SCALE - 1)
        self._clipped += np.count_nonzero(clipped != finished)
        return clipped

    def summary(self) -> str:
        """One line."""
        heard_s = self._heard / self._rate
        parts = [f"stream: {heard_s:.2f} s"]
        if self._heard:
            parts += [f"real-time factor {self._spent_s / heard_s:.3f}"]
            parts += [
                f"worst chunk {1e3 * self._worst_s:.1f} ms (of"
                f" {1e3 * self.hop / self._rate:.1f} ms)"
            ]
        model_ms = 1e3 * self._model_latency / self._model_rate
        parts += [
            f"latency {self._model_latency} samples at {self._model_rate} Hz ({model_ms:.0f} ms)"
        ]
        if self._rate != self._model_rate:
            parts[-1] += f", with resampling {1e3 * self._behind / self._rate:.0f} ms"
        if self._clipped:
            parts += [f"{self._clipped} samples clipped"]
        return ", ".join(parts)
