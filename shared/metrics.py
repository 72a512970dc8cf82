"""The one door to prometheus-client: what a service counts, and how Prometheus reads it.

Decides names, labels and buckets: a contract with dashboards and alert rules. Labels are bounded: a source that is not
configured counts as ``other``, so that hostile events cannot make endless series. Everything lives in a registry of its
own; nothing is global.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The content type of ``Metrics.text``."""

OTHER_SOURCE = "other"

_STAGE_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """What waits in one durable consumer.

    Attributes:
        durable: its name.
        num_pending: events that no worker has got yet.
        num_ack_pending: events that workers hold, or that rest before another attempt.
        oldest_age_s: age of the oldest event that is not settled; 0 if there is none.
    """

    durable: str
    num_pending: int
    num_ack_pending: int
    oldest_age_s: float


class Metrics:
    """The metrics of one process.

    Args:
        service: its name, the label ``stage`` of everything it handles.
        version: of the software.
        sources: the configured sources; events of others count together.
    """

    def __init__(self, service: str = "", *, version: str = "", sources: Iterable[str] = ()) -> None:
        registry = self._registry = CollectorRegistry()
        self._service = service
        self._sources = frozenset(sources)
        ProcessCollector(registry=registry)
        self._handled = Counter(
            "episodeflow_events", "Events brought to an end, by outcome.", ["stage", "source", "outcome"], registry=registry
        )
        self._seconds = Histogram(
            "episodeflow_stage_seconds", "Time from delivery to its end.", ["stage"], buckets=_STAGE_BUCKETS_S, registry=registry
        )
        self._bytes = Counter("episodeflow_bytes", "Bytes of finished datasets.", ["stage", "source"], registry=registry)
        self._in_flight = Gauge("episodeflow_in_flight", "Events being worked on.", ["stage"], registry=registry)
        self._failures = Counter(
            "episodeflow_failures", "Episodes that need a person.", ["stage", "source", "reason", "error_type"], registry=registry
        )
        self._heartbeats_lost = Counter("episodeflow_heartbeats_lost", "Heartbeats that were not sent.", ["stage"], registry=registry)
        self._redeliveries = Counter("episodeflow_redeliveries", "Deliveries after the first.", ["stage"], registry=registry)
        self._pending = Gauge("episodeflow_queue_pending", "Events that no worker has got yet.", ["durable"], registry=registry)
        self._ack_pending = Gauge("episodeflow_queue_ack_pending", "Events held or resting.", ["durable"], registry=registry)
        self._oldest_age = Gauge(
            "episodeflow_queue_oldest_age_seconds", "Age of the oldest unsettled event.", ["durable"], registry=registry
        )
        self._connected = Gauge("episodeflow_bus_connected", "1 while NATS is there.", registry=registry)
        build = Gauge("episodeflow_build_info", "Always 1; the labels say what runs.", ["service", "version"], registry=registry)
        build.labels(service, version).set(1)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Return the name of every series, as expressions use it."""
        suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        families = cls()._registry.collect()
        return frozenset(f"{family.name}{suffix}" for family in families for suffix in suffixes.get(family.type, ("",)))

    def text(self) -> bytes:
        """Return everything as Prometheus reads it."""
        return generate_latest(self._registry)

    def begun(self, *, attempt: int) -> None:
        """Count a delivery that is now worked on; ``attempt`` counts from 1."""
        self._in_flight.labels(self._service).inc()
        if attempt > 1:
            self._redeliveries.labels(self._service).inc()

    def ended(self, outcome: str, *, source: str | None, duration_s: float, num_bytes: int = 0) -> None:
        """Count the end of a delivery.

        Args:
            outcome: done, retried, failed or returned.
            source: the event's source; None: it was not readable.
            duration_s: since ``begun``.
            num_bytes: size of the dataset that was made or moved.
        """
        self._in_flight.labels(self._service).dec()
        self._handled.labels(self._service, self._known(source), outcome).inc()
        self._seconds.labels(self._service).observe(duration_s)
        if num_bytes:
            self._bytes.labels(self._service, self._known(source)).inc(num_bytes)

    def announced(self, source: str, *, is_duplicate: bool) -> None:
        """Count an event that this service published by itself; a duplicate was on the stream already."""
        self._handled.labels(self._service, self._known(source), "duplicate" if is_duplicate else "done").inc()

    def failed(self, *, source: str, reason: str, error_type: str) -> None:
        """Count an episode that failed for good."""
        self._failures.labels(self._service, self._known(source), reason, error_type).inc()

    def heartbeat_lost(self) -> None:
        """Count a heartbeat that could not be sent."""
        self._heartbeats_lost.labels(self._service).inc()

    def set_queues(self, states: Iterable[QueueState]) -> None:
        """Show what waits; durables that are not in ``states`` are no longer shown, as nothing is known of them."""
        for gauge in (self._pending, self._ack_pending, self._oldest_age):
            gauge.clear()
        for state in states:
            self._pending.labels(state.durable).set(state.num_pending)
            self._ack_pending.labels(state.durable).set(state.num_ack_pending)
            self._oldest_age.labels(state.durable).set(state.oldest_age_s)

    def set_connected(self, *, is_connected: bool) -> None:
        """Show whether NATS is there."""
        self._connected.set(int(is_connected))

    def _known(self, source: str | None) -> str:
        return source if source in self._sources and source else OTHER_SOURCE
