"""What a service counts, as Prometheus reads it."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from shared.bus import Bus
from shared.config import StorageConfig
from shared.consumer import Consumer, Delivery, Work
from shared.errors import BadRaw, StoreUnavailable
from shared.events import EpisodeConverted, EpisodeReady
from shared.metrics import Metrics, QueueState
from shared.provision import converter_durable, provision, provision_plan
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample of the exposed text, None if it is not there."""
    families = text_string_to_metric_families(metrics.text().decode())
    samples = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}
    return samples.get((name, tuple(sorted(labels.items()))))


async def served(bus: Bus, work: Work[EpisodeReady], metrics: Metrics, *, num: int) -> None:
    """Run a consumer until it has handled ``num`` deliveries."""
    stopping = asyncio.Event()
    consumer = Consumer(bus, work, metrics=metrics)
    running = asyncio.create_task(consumer.run(stopping))
    async with asyncio.timeout(20):
        while consumer.counts.done + consumer.counts.retried + consumer.counts.failed < num:  # noqa: ASYNC110 - the counts tell nobody
            await asyncio.sleep(0.01)
    stopping.set()
    await running


def test_source_that_is_not_configured_counts_as_other() -> None:
    metrics = Metrics("converter", sources=("robot",))
    for source in ("robot", "hostile-1", "hostile-2", None):
        metrics.begun(attempt=1)
        metrics.ended("done", source=source, duration_s=0.2)

    assert value(metrics, "episodeflow_events_total", stage="converter", source="robot", outcome="done") == 1
    assert value(metrics, "episodeflow_events_total", stage="converter", source="other", outcome="done") == 3
    assert b"hostile" not in metrics.text()


def test_in_flight_rises_with_a_delivery_and_falls_with_its_end() -> None:
    metrics = Metrics("converter")
    metrics.begun(attempt=1)
    metrics.begun(attempt=3)
    during = value(metrics, "episodeflow_in_flight", stage="converter")
    metrics.ended("returned", source=None, duration_s=0.2)

    assert (during, value(metrics, "episodeflow_in_flight", stage="converter")) == (2, 1)
    assert value(metrics, "episodeflow_redeliveries_total", stage="converter") == 1


def test_queue_that_is_no_longer_known_disappears() -> None:
    metrics = Metrics("converter")
    metrics.set_queues([QueueState(durable="converter-robot", num_pending=7, num_ack_pending=2, oldest_age_s=3.5)])
    shown = value(metrics, "episodeflow_queue_pending", durable="converter-robot")
    metrics.set_queues([])

    assert shown == 7
    assert value(metrics, "episodeflow_queue_oldest_age_seconds", durable="converter-robot") is None


def test_announced_event_counts_once_and_its_repetition_as_duplicate() -> None:
    metrics = Metrics("scanner", sources=("bos",))
    metrics.announced("bos", is_duplicate=False)
    metrics.announced("bos", is_duplicate=True)

    assert value(metrics, "episodeflow_events_total", stage="scanner", source="bos", outcome="done") == 1
    assert value(metrics, "episodeflow_events_total", stage="scanner", source="bos", outcome="duplicate") == 1


def test_two_registries_of_one_process_do_not_mix() -> None:
    first, second = Metrics("converter"), Metrics("uploader")
    first.heartbeat_lost()

    assert value(first, "episodeflow_heartbeats_lost_total", stage="converter") == 1
    assert value(second, "episodeflow_heartbeats_lost_total", stage="converter") is None


async def test_consumer_counts_success_with_bytes_retry_and_failure_by_type(bus: Bus, source: str) -> None:
    async def handle(delivery: Delivery[EpisodeReady]) -> EpisodeConverted:
        if delivery.event.episode_id == "bad":
            raise BadRaw("joints/left.parquet", "is empty")
        if delivery.attempt == 1:
            raise StoreUnavailable("away for a moment")
        return EpisodeConverted(
            episode_id="good", source=source, spool=source, path="p", frames=1, duration_s=0.1, num_bytes=1234, digest="sha256:0"
        )

    for episode_id in ("good", "bad"):
        await bus.publish(EpisodeReady(episode_id=episode_id, source=source), message_id=f"{source}:{episode_id}")
    metrics = Metrics("converter", sources=(source,))
    work = Work(stage="converter", durables=(converter_durable(source).name,), event_type=EpisodeReady, handler=handle)
    await served(bus, work, metrics, num=3)

    for outcome in ("done", "retried", "failed"):
        assert value(metrics, "episodeflow_events_total", stage="converter", source=source, outcome=outcome) == 1
    assert value(metrics, "episodeflow_bytes_total", stage="converter", source=source) == 1234
    labels = {"stage": "converter", "source": source, "reason": "rejected", "error_type": "BadRaw"}
    assert value(metrics, "episodeflow_failures_total", **labels) == 1
    assert value(metrics, "episodeflow_redeliveries_total", stage="converter") == 1
    assert value(metrics, "episodeflow_stage_seconds_count", stage="converter") == 3
    assert value(metrics, "episodeflow_in_flight", stage="converter") == 0


async def test_heartbeats_that_find_no_server_are_counted(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    config: StorageConfig = storage_for(server, "robot", ack_wait_s=0.6)
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    metrics = Metrics("converter")

    async def outlive(_: Delivery[EpisodeReady]) -> None:
        await server.kill()
        async with asyncio.timeout(20):
            while not value(metrics, "episodeflow_heartbeats_lost_total", stage="converter"):  # noqa: ASYNC110 - a counter tells nobody
                await asyncio.sleep(0.05)
        await server.restart()

    await bus.publish(EpisodeReady(episode_id="e1", source="robot"), message_id="1")
    work = Work(stage="converter", durables=("converter-robot",), event_type=EpisodeReady, handler=outlive)
    await served(bus, work, metrics, num=1)

    lost = value(metrics, "episodeflow_heartbeats_lost_total", stage="converter")
    assert lost is not None
    assert lost >= 1
