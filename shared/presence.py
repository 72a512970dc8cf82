"""A running service as others see it: registered on the bus, ``/metrics``, ``/healthz``, and what waits in its consumers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Self

import msgspec

from shared import logs
from shared.bus import Bus
from shared.config import MetricsConfig, StorageConfig, source_configs
from shared.consumer import Consumer, Counts, Work
from shared.errors import EpisodeflowError
from shared.events import E
from shared.health import HealthServer
from shared.metrics import Metrics, QueueState
from shared.microservice import About, Microservice
from shared.version import VERSION

_log = logs.logger("presence")

_SAMPLE_INTERVAL_S = 15.0


class Presence:
    """Makes a service visible while it is open; use it as a context.

    Args:
        bus: connected.
        config: where metrics and health are served.
        about: who we are.
        metrics: what is shown.
        durables: the consumers whose queues are shown.
        counts: asked for how many messages ended how.
        interval_s: seconds between two looks at the queues.
    """

    def __init__(
        self,
        bus: Bus,
        config: MetricsConfig,
        about: About,
        *,
        metrics: Metrics,
        durables: tuple[str, ...] = (),
        counts: Callable[[], dict[str, int]] = dict,
        interval_s: float = _SAMPLE_INTERVAL_S,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._durables = durables
        self._interval_s = interval_s
        self._micro = Microservice(bus.connection, about, counts=counts)
        self._server = HealthServer(config, service=about.service, metrics=metrics, is_bus_connected=lambda: bus.is_connected)
        self._has_port = bool(config.port)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Register and listen.

        Raises:
            BadConfig: the address for metrics cannot be listened on.
        """
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self._micro)
            await stack.enter_async_context(self._server)
            if self._durables and self._has_port:
                stack.push_async_callback(_cancelled, asyncio.create_task(self._sample()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                self._metrics.set_queues([await queue_state(self._bus, durable, now_s=time.time()) for durable in self._durables])
            except EpisodeflowError as error:
                # An old number would look like a queue that stands still.
                self._metrics.set_queues([])
                _log.debug("queues.unknown", error=str(error))


def service_metrics(service: str, storage: StorageConfig) -> Metrics:
    """Return the metrics of a service over the configured sources."""
    return Metrics(service, version=VERSION, sources=_sources(storage))


def about(service: str, storage: StorageConfig, *, spool: str | None = None) -> About:
    """Return what a service tells about itself."""
    return About(service=service, sources=_sources(storage), spool=spool)


async def run_shown(
    bus: Bus, work: Work[E], storage: StorageConfig, *, spool: str, stopping: asyncio.Event, stack: contextlib.AsyncExitStack
) -> Counts:
    """Run a consumer that others can see, until ``stopping``.

    Args:
        bus: connected.
        work: what the service consumes and does; its stage is the service's name.
        storage: sources, and where metrics are served.
        spool: what it fills or empties.
        stopping: set when no more work is to be taken.
        stack: keeps the service visible while it drains.

    Raises:
        BadConfig: the address for metrics cannot be listened on.
        Refused, BusUnavailable: as ``Consumer.run``.
    """
    metrics = service_metrics(work.stage, storage)
    consumer = Consumer(bus, work, metrics=metrics)
    presence = Presence(
        bus,
        storage.metrics,
        about(work.stage, storage, spool=spool),
        metrics=metrics,
        durables=work.durables,
        counts=lambda: msgspec.structs.asdict(consumer.counts),
    )
    await stack.enter_async_context(presence)
    return await consumer.run(stopping)


def _sources(storage: StorageConfig) -> tuple[str, ...]:
    return tuple(source.name for source in source_configs(storage))


async def queue_state(bus: Bus, durable: str, *, now_s: float) -> QueueState:
    """Return what waits in a durable consumer.

    Args:
        bus: connected, as a user who may look at the consumer and read the stream.
        durable: its name.
        now_s: seconds since the epoch.

    Raises:
        BusUnavailable, Refused: as ``Bus.api``.
    """
    info = await bus.consumer_info(durable)
    if info is None or info.num_pending + info.num_ack_pending == 0:
        return QueueState(durable=durable, num_pending=0, num_ack_pending=0, oldest_age_s=0.0)
    oldest = await bus.stored(info.ack_floor.stream_seq + 1, next_on=info.config["filter_subject"])
    age_s = max(0.0, now_s - datetime.fromisoformat(oldest.time).timestamp()) if oldest else 0.0
    return QueueState(durable=durable, num_pending=info.num_pending, num_ack_pending=info.num_ack_pending, oldest_age_s=age_s)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
