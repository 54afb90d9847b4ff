"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

_ANSWER_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
Metric = TypeVar("Metric", bound=MetricWrapperBase)


class Metrics:
    """Of one server. kind: "file" or "stream"."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._audio_s: dict[str, float] = defaultdict(float)
        self._work_s: dict[str, float] = defaultdict(float)

        def metric(
            cls: type[Metric], name: str, what: str, labels: tuple[str, ...] = (), **options: Any
        ) -> Metric:
            return cls(f"gan_denoise_{name}", what, labels, registry=self._registry, **options)

        self.requests = metric(Counter, "requests", "Requests answered", ("route", "status"))
        self._audio = metric(
            Counter, "audio_seconds", "Audio enhanced, each channel counted", ("kind",)
        )
        self._work = metric(Counter, "work_seconds", "Time spent on enhancing", ("kind",))
        self._factor = metric(
            Gauge, "real_time_factor", "Time spent per time of audio, since the start", ("kind",)
        )
        self.streams = metric(Gauge, "streams_open", "Live streams")
        self.busy = metric(
            Gauge, "busy", "Share of the last half second that the server was at work"
        )
        self.files = metric(Gauge, "files_open", "Files being sent, waiting or worked on")
        self.ready = metric(Gauge, "files_ready", "1: files can be worked on, 0: they cannot")
        self.restarts = metric(
            Gauge,
            "worker_restarts",
            "Times that all processes for files were replaced",
        )
        self.queue = metric(Gauge, "queue", "Files that wait for a worker")
        self.answer = metric(
            Histogram,
            "answer_seconds",
            "From a message of a live stream to its answer",
            buckets=_ANSWER_S,
        )

    def received(self, kind: str, audio_s: float) -> None:
        self._audio.labels(kind).inc(audio_s)
        self._audio_s[kind] += audio_s

    def worked(self, kind: str, work_s: float) -> None:
        self._work.labels(kind).inc(work_s)
        self._work_s[kind] += work_s

    def text(self) -> bytes:
        """Prometheus' text format."""
        for kind, audio_s in self._audio_s.items():
            self._factor.labels(kind).set(self._work_s[kind] / audio_s if audio_s else 0.0)
        return generate_latest(self._registry)
