"""What Prometheus is told of the API: requests by route, and jobs by status."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ratchet.service.store.records import Kind, Status

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ApiMetrics:
    """The API's figures, in a registry of their own: several apps may live in one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ratchet_api_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "ratchet_api_request_seconds",
            "Seconds until the answer began",
            ("method", "route"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._streams = Gauge(
            "ratchet_api_event_streams", "Event streams that are open", registry=self._registry
        )
        self._jobs = Gauge(
            "ratchet_jobs", "Jobs by kind and status", ("kind", "status"), registry=self._registry
        )

    @property
    def streams(self) -> Gauge:
        """How many event streams are open."""
        return self._streams

    def streams_open(self) -> int:
        """How many event streams are open, as a number."""
        return int(self._registry.get_sample_value("ratchet_api_event_streams") or 0)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self, num_jobs: Mapping[tuple[Kind, Status], int]) -> bytes:
        """Everything in Prometheus' text form.

        Args:
            num_jobs: Number of jobs by kind and status.
        """
        self._jobs.clear()
        for (kind, status), count in num_jobs.items():
            self._jobs.labels(kind, status).set(count)
        return generate_latest(self._registry)
