"""Pulling in fair turn, against a real nats-server."""

from __future__ import annotations

import asyncio

import pytest

from cli.servers import NatsServer
from shared import events
from shared.bus import Bus
from shared.errors import BusUnavailable, Refused
from shared.events import EpisodeReady
from shared.message import Message
from shared.provision import provision, provision_plan
from shared.pull import Puller
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for

SOURCES = ("a", "b", "c")
DURABLES = ("converter-a", "converter-b", "converter-c")


async def provisioned(server: NatsServer, connect: BusFactory) -> Bus:
    config = storage_for(server, *SOURCES)
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    return bus


async def publish(bus: Bus, source: str, episode_id: str) -> None:
    await bus.publish(EpisodeReady(episode_id=episode_id, source=source), message_id=f"ready:{source}:{episode_id}")


async def taken(puller: Puller) -> Message:
    message = await asyncio.wait_for(puller.next(), 15)
    assert message is not None
    await message.ack(timeout_s=5)
    return message


async def waiting_pulls(bus: Bus, durable: str, *, num: int) -> None:
    async with asyncio.timeout(10):
        while (info := await bus.consumer_info(durable)) is None or info.num_waiting != num:  # noqa: ASYNC110 - it happens in the server
            await asyncio.sleep(0.005)


def source_of(message: Message) -> str:
    return events.decode(message.body, EpisodeReady).source


async def test_one_slot_serves_three_durables_in_fair_turn(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)
    for index in range(5):
        for source in SOURCES if index < 2 else ("a",):
            await publish(bus, source, f"e{index}")
    puller = Puller(bus, DURABLES)

    order = [source_of(await taken(puller)) for _ in range(9)]
    assert order == ["a", "b", "c", "a", "b", "c", "a", "a", "a"]


async def test_idle_puller_gets_a_message_of_any_durable_and_withdraws_the_other_pulls(
    private_nats: ServerFactory, connect: BusFactory
) -> None:
    bus = await provisioned(await private_nats(), connect)
    pulling = asyncio.create_task(taken(Puller(bus, DURABLES)))
    await waiting_pulls(bus, "converter-c", num=1)
    await publish(bus, "b", "e1")

    assert source_of(await pulling) == "b"
    await waiting_pulls(bus, "converter-a", num=0)
    await publish(bus, "a", "e2")
    message = await taken(Puller(bus, ("converter-a",)))
    assert message.attempt == 1, "a withdrawn pull ate the first delivery"


async def test_message_that_races_in_beside_the_first_is_given_back_at_once(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)
    puller = Puller(bus, DURABLES)
    for index in range(20):
        pulling = asyncio.create_task(taken(puller))
        await waiting_pulls(bus, "converter-c", num=1)
        await asyncio.gather(*(publish(bus, source, f"e{index}") for source in SOURCES))
        sources = {source_of(await pulling), source_of(await taken(puller)), source_of(await taken(puller))}

        assert sources == set(SOURCES)


async def test_waiting_pull_survives_a_killed_server(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    bus = await provisioned(server, connect)
    pulling = asyncio.create_task(taken(Puller(bus, DURABLES)))
    await waiting_pulls(bus, "converter-c", num=1)
    await server.kill()
    await server.restart()
    clock = asyncio.get_running_loop().time
    started_s = clock()
    await publish(bus, "c", "e1")

    assert source_of(await pulling) == "c"
    assert clock() - started_s < 4, "the dead pull was only sent again when it had expired"


async def test_stop_ends_a_waiting_pull_at_once_and_leaves_no_pull_behind(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)
    puller = Puller(bus, DURABLES)
    pulling = asyncio.create_task(puller.next())
    await waiting_pulls(bus, "converter-c", num=1)
    puller.stop()

    assert await asyncio.wait_for(pulling, 1) is None
    await waiting_pulls(bus, "converter-c", num=0)
    assert await puller.next() is None


async def test_missing_durable_does_not_keep_the_others_from_being_served(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)
    puller = Puller(bus, ("converter-gone", "converter-a"))
    await publish(bus, "a", "e1")

    assert source_of(await taken(puller)) == "a"


async def test_closed_bus_ends_a_waiting_pull(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)
    pulling = asyncio.create_task(Puller(bus, DURABLES).next())
    await waiting_pulls(bus, "converter-c", num=1)
    await bus.close()

    with pytest.raises(BusUnavailable, match="is closed"):
        await asyncio.wait_for(pulling, 5)


async def test_check_names_the_missing_durable(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect)

    with pytest.raises(Refused, match="converter-gone"):
        await Puller(bus, ("converter-a", "converter-gone")).check()
