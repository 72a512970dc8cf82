"""The door to nats-py against a real server: cancellation, inboxes, denied subscriptions."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from cli.servers import NatsServer, NatsUser
from shared.bus import Bus
from shared.errors import EpisodeflowError, Refused
from shared.settings import Secret
from tests.fixtures_bus import BusFactory


async def test_cancellation_that_meets_an_answer_is_not_lost(bus: Bus) -> None:
    async def ask_for_ever() -> None:
        while True:
            await bus.stream_info()

    dice = random.Random(7)
    for _ in range(150):
        task = asyncio.create_task(ask_for_ever())
        await asyncio.sleep(dice.uniform(0, 0.003))
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=2)

        assert done, "the task went on asking"


async def test_answers_arrive_in_an_inbox_of_the_users_own(tmp_path: Path, connect: BusFactory) -> None:
    users = (NatsUser(name="viewer", password=Secret("v"), subscribe=("_INBOX_viewer.>",)),)
    async with NatsServer(tmp_path, users=users) as server:
        bus = await connect(server.config())

        assert bus.connection.new_inbox().startswith("_INBOX_viewer.")
        assert await bus.stream_info() is None


async def test_denied_subscription_to_another_subject_leaves_asking_intact(tmp_path: Path, connect: BusFactory) -> None:
    users = (NatsUser(name="viewer", password=Secret("v"), subscribe=("_INBOX_viewer.>",)),)
    async with NatsServer(tmp_path, users=users) as server:
        bus = await connect(server.config())
        denials: list[EpisodeflowError] = []
        with bus.connection.watching("$SRV.PING", denials.append):
            subscribed = await bus.connection.subscribe("$SRV.PING", lambda incoming: None)
            info = await bus.stream_info()  # its answer comes after the denial
        await subscribed.end(drain=False)

    assert info is None
    assert [type(denial) for denial in denials] == [Refused]
    assert "subscription on $SRV.PING" in str(denials[0])
