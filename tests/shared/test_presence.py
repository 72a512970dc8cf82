"""A service as others see it: queue state from the real stream, and everything together."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from cli.servers import free_port
from shared.bus import Bus
from shared.config import MetricsConfig
from shared.events import EpisodeReady
from shared.metrics import Metrics
from shared.microservice import About
from shared.presence import Presence, queue_state
from shared.provision import converter_durable
from shared.pull import Puller
from tests.fixtures_bus import BusFactory, ServerFactory


async def publish(bus: Bus, source: str, num: int) -> None:
    for index in range(num):
        await bus.publish(EpisodeReady(episode_id=f"e{index}", source=source), message_id=f"{source}:{index}")


async def test_empty_queue_has_no_age(bus: Bus, source: str) -> None:
    state = await queue_state(bus, converter_durable(source).name, now_s=time.time() + 100)

    assert (state.num_pending, state.num_ack_pending, state.oldest_age_s) == (0, 0, 0.0)


async def test_age_is_that_of_the_oldest_event_which_is_not_settled(bus: Bus, source: str) -> None:
    durable = converter_durable(source).name
    await publish(bus, source, 3)
    puller = Puller(bus, (durable,))
    settled, held = await puller.next(), await puller.next()
    assert settled is not None
    assert held is not None
    await settled.ack(timeout_s=5)

    state = await queue_state(bus, durable, now_s=held.timestamp_s + 100)
    await held.nak()
    assert (state.num_pending, state.num_ack_pending) == (1, 1)
    assert state.oldest_age_s == pytest.approx(100, abs=0.01)


async def test_queues_health_and_metrics_are_shown_together(bus: Bus, source: str) -> None:
    await publish(bus, source, 2)
    durable, port = converter_durable(source).name, free_port()
    presence = Presence(
        bus, MetricsConfig(port=port), About(service="converter"), metrics=Metrics("converter"), durables=(durable,), interval_s=0.05
    )
    wanted = f'episodeflow_queue_pending{{durable="{durable}"}} 2.0'
    async with presence, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with asyncio.timeout(10):
            while wanted not in await text(session, "/metrics"):  # noqa: ASYNC110 - a metric tells nobody
                await asyncio.sleep(0.05)
        async with session.get("/healthz") as answer:
            status = answer.status

    assert status == 200


async def test_health_turns_bad_while_the_server_is_away_and_good_again(private_nats: ServerFactory, connect: BusFactory) -> None:
    server, port = await private_nats(), free_port()
    bus = await connect(server.config())
    async with (
        Presence(bus, MetricsConfig(port=port), About(service="scanner"), metrics=Metrics("scanner")),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
    ):
        statuses = [await status_becomes(session, 200)]
        await server.kill()
        statuses.append(await status_becomes(session, 503))
        await server.restart()
        statuses.append(await status_becomes(session, 200))

    assert statuses == [200, 503, 200]


async def text(session: aiohttp.ClientSession, path: str) -> str:
    async with session.get(path) as answer:
        return await answer.text()


async def status_becomes(session: aiohttp.ClientSession, wanted: int) -> int:
    async with asyncio.timeout(10):
        while True:
            async with session.get("/healthz") as answer:
                if answer.status == wanted:
                    return wanted
            await asyncio.sleep(0.05)
