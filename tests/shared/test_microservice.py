"""Registration as the stock ``nats`` tool sees it: the requests it sends, on a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from shared.bus import Bus
from shared.connection import Incoming
from shared.microservice import About, Microservice
from shared.permissions import STATUS_SUBJECT
from tests.fixtures_bus import BusFactory, ServerFactory

ABOUT = About(service="converter", sources=("robot", "lab.one"), spool="default")


def service(bus: Bus) -> Microservice:
    return Microservice(bus.connection, ABOUT, counts=lambda: {"done": 3})


async def answers(bus: Bus, subject: str, *, num: int) -> list[dict[str, Any]]:
    """Ask as ``nats micro`` does: one request, as many answers as there are instances."""
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    inbox = bus.connection.new_inbox()
    subscribed = await bus.connection.subscribe(inbox, heard.put_nowait)
    await bus.connection.send(subject, b"", reply=inbox)
    async with asyncio.timeout(5):
        found = [await heard.get() for _ in range(num)]
    await subscribed.end(drain=False)
    return [msgspec.json.decode(answer.body) for answer in found]


async def test_ping_lists_every_instance_with_name_version_and_metadata(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect((await private_nats()).config())
    async with service(bus), service(bus):
        found = await answers(bus, "$SRV.PING", num=2)

    assert len({each["id"] for each in found}) == 2
    assert {(each["type"], each["name"]) for each in found} == {("io.nats.micro.v1.ping_response", "episodeflow-converter")}
    assert found[0]["metadata"].items() >= {"sources": "robot,lab.one", "spool": "default"}.items()
    assert found[0]["metadata"]["host"]


async def test_info_names_the_status_endpoint(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect((await private_nats()).config())
    async with service(bus):
        (info,) = await answers(bus, "$SRV.INFO.episodeflow-converter", num=1)

    assert info["type"] == "io.nats.micro.v1.info_response"
    assert info["description"] == "episodeflow converter"
    assert [(each["name"], each["subject"]) for each in info["endpoints"]] == [("status", f"{STATUS_SUBJECT}.converter")]


async def test_status_is_answered_by_every_replica_and_counted_in_stats(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect((await private_nats()).config())
    async with service(bus), service(bus):
        statuses = await answers(bus, f"{STATUS_SUBJECT}.converter", num=2)
        stats = await answers(bus, "$SRV.STATS", num=2)

    assert [(each["service"], each["counts"]) for each in statuses] == [("converter", {"done": 3})] * 2
    assert [each["endpoints"][0]["num_requests"] for each in stats] == [1, 1]
    assert {each["type"] for each in stats} == {"io.nats.micro.v1.stats_response"}


async def test_closed_service_answers_no_more(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect((await private_nats()).config())
    async with service(bus):
        (found,) = await answers(bus, "$SRV.PING", num=1)
    async with service(bus):
        (later,) = await answers(bus, "$SRV.PING", num=1)

    assert later["id"] != found["id"]


async def test_registration_survives_a_restart_of_the_server(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    bus = await connect(server.config())
    async with service(bus):
        before = await answers(bus, "$SRV.PING", num=1)
        await server.kill()
        await server.restart()
        await bus.connection.wait_connected()
        after = await answers(bus, "$SRV.PING", num=1)

    assert after == before
