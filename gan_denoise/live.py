"""Raw mono s16le between two pipes: what `gan-denoise stream` does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from gan_denoise.enhance import Denoiser

FULL_SCALE = 32768.0


def live(
    denoiser: Denoiser,
    sample_rate: int,
    source: int,
    target: int,
    tell: Callable[[str], None],
    *,
    mix: float = 1.0,
    high_band: str | None = None,
    strength: float | str | None = None,
) -> int:
    """Enhance what comes from one file descriptor into another, hop by hop, until it ends.

    Tells at the end how fast it was.

    sample_rate: Hz, of `source` and `target`. tell: is given lines of text. mix, high_band,
    strength: as of Denoiser.stream. Returns the exit status: 0, or 141 where the reader of `target`
    went away. Raises InputError for a model that does not stream.
    """
    stream = denoiser.stream(sample_rate, mix=mix, high_band=high_band, strength=strength)
    if denoiser.live_note:
        tell(f"note: {denoiser.live_note}")
    meter, odd = LiveMeter(denoiser, sample_rate, stream.latency_s), b""
    # What runs for the first time takes longer
    stream.push(np.zeros((4 * meter.hop, 1), dtype=np.float32))
    stream.flush()
    try:
        while content := os.read(source, 2 * meter.hop - len(odd)):
            content = odd + content
            samples = np.frombuffer(content, dtype="<i2", count=len(content) // 2)
            odd = content[2 * len(samples) :]
            wave = samples.astype(np.float32)[:, None] / np.float32(FULL_SCALE)
            _write(target, meter.timed(stream.push, wave))
        _write(target, meter.timed(stream.flush))
        if odd:
            tell("note: the input ended within a sample: its last byte is left out")
        return 0
    except BrokenPipeError:
        # Nothing more goes there, or Python complains at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), target)
        return 141
    finally:
        tell(meter.summary())


def _write(target: int, samples: np.ndarray) -> None:
    """(n,) s16, all of it, whatever a pipe takes at once."""
    content = memoryview(samples.tobytes())
    while content:
        content = content[os.write(target, content) :]


def _quantised(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """(n,) float to s16, and how many samples were beyond its range."""
    exact = np.rint(samples * FULL_SCALE)
    clipped = exact.clip(-FULL_SCALE, FULL_SCALE - 1)
    return clipped.astype("<i2"), int(np.count_nonzero(clipped != exact))


class LiveMeter:
    """How long the work takes, how far it is behind, and how much of it was clipped.

    hop: the model's own, in samples at `sample_rate`. latency_s: the stream's.
    """

    def __init__(self, denoiser: Denoiser, sample_rate: int, latency_s: float):
        generator = denoiser.live_generator
        self._model_latency, self._model_rate = generator.latency, denoiser.sample_rate
        self._rate = sample_rate
        self.hop = max(1, generator.hop_length * sample_rate // denoiser.sample_rate)
        self._latency_s = latency_s
        self._received = self._clipped = 0
        self._spent_s = self._worst_s = 0.0

    def timed(self, work: Callable[..., np.ndarray], *samples: np.ndarray) -> np.ndarray:
        """Call work(samples) or, at the end, work(): the finished samples (n,) as s16."""
        for piece in samples:
            self._received += len(piece)
        started = time.perf_counter()
        finished, clipped = _quantised(work(*samples)[:, 0])
        took_s = time.perf_counter() - started
        self._spent_s += took_s
        self._worst_s = max(self._worst_s, took_s if samples else 0.0)
        self._clipped += clipped
        return finished

    def summary(self) -> str:
        """One line."""
        received_s = self._received / self._rate
        parts = [f"stream: {received_s:.2f} s"]
        if self._received:
            parts += [f"real-time factor {self._spent_s / received_s:.3f}"]
            parts += [
                f"worst chunk {1e3 * self._worst_s:.1f} ms (of"
                f" {1e3 * self.hop / self._rate:.1f} ms)"
            ]
        model_ms = 1e3 * self._model_latency / self._model_rate
        parts += [
            f"latency {self._model_latency} samples at {self._model_rate} Hz ({model_ms:.0f} ms)"
        ]
        if self._rate != self._model_rate:
            parts[-1] += f", with resampling {1e3 * self._latency_s:.0f} ms"
        if self._clipped:
            parts += [f"{self._clipped} samples clipped"]
        return ", ".join(parts)
