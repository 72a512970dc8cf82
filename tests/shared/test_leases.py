"""Leases on a real server: one holder at a time, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from cli.servers import NatsServer
from shared.bus import Bus
from shared.config import StorageConfig
from shared.errors import BusUnavailable, Refused
from shared.leases import DatasetBusy, Key, Lease, Leases
from shared.permissions import leases_stream
from shared.provision import leases_settings
from tests.fixtures_bus import BusFactory, ServerFactory

LEASE_S = 1.2


async def make_bucket(bus: Bus) -> None:
    name = leases_stream(bus.config.stream)
    answer = await bus.api(f"STREAM.CREATE.{name}", {"name": name, **leases_settings(bus.config.stream, lease_s=LEASE_S)})
    assert answer is not None


@pytest.fixture
async def short(nats_server: NatsServer, connect: BusFactory) -> Bus:
    """A bus whose bucket is its own and forgets soon."""
    config = nats_server.config()
    bus = await connect(msgspec.structs.replace(config, stream=f"S{uuid.uuid4().hex[:8]}"))
    await make_bucket(bus)
    return bus


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    deadline_s = time.monotonic() + 10 * LEASE_S
    while not await condition():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


def leases(bus: Bus, *, patience_s: float = 10.0) -> Leases:
    return Leases(bus, lease_s=LEASE_S, patience_s=patience_s)


def lease_on(bus: Bus, name: str) -> Lease:
    return Lease(Key(bus, name, timeout_s=5.0), lease_s=LEASE_S)


@pytest.mark.parametrize("name", ["stack", "me/stack", "me..x/a.b."])
async def test_only_one_of_many_holds_a_lease_and_all_get_it(short: Bus, name: str) -> None:
    inside, most, num_done = 0, 0, 0

    async def work(own: Leases) -> None:
        nonlocal inside, most, num_done
        for _ in range(5):
            async with own.holding(name) as lease:
                lease.check()
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                inside -= 1
                num_done += 1

    await asyncio.gather(*(work(leases(short)) for _ in range(4)))

    assert (most, num_done) == (1, 20)


async def test_leases_on_two_names_do_not_wait_for_each_other(short: Bus) -> None:
    async with leases(short).holding("a") as first, leases(short, patience_s=0.5).holding("b") as second:
        assert min(first.remaining_s, second.remaining_s) > 0


async def test_who_waits_too_long_is_told_so(short: Bus) -> None:
    async with leases(short).holding("me/stack"):
        with pytest.raises(DatasetBusy, match=r"me/stack: another uploader has been committing into it for 0\.1 s"):
            async with leases(short, patience_s=0.1).holding("me/stack"):
                pass


async def test_a_lease_is_kept_beyond_its_time_while_its_holder_lives(short: Bus) -> None:
    async with leases(short).holding("a") as lease:
        await asyncio.sleep(2 * LEASE_S)

        lease.check()
        assert not await lease_on(short, "a").take()


async def test_the_lease_of_a_holder_that_died_passes_on(short: Bus) -> None:
    assert await lease_on(short, "a").take()
    started_s = time.monotonic()

    async with leases(short).holding("a") as lease:
        lease.check()

    assert time.monotonic() - started_s > LEASE_S / 2


async def test_a_lease_that_was_released_is_free_at_once(short: Bus) -> None:
    async with leases(short).holding("a"):
        pass

    assert await lease_on(short, "a").take()


async def test_a_holder_that_took_too_long_is_refused_its_last_step_and_takes_nothing_away(short: Bus) -> None:
    slow, other = lease_on(short, "a"), lease_on(short, "a")
    assert await slow.take()
    await until(other.take)

    with pytest.raises(DatasetBusy, match="another host may have it"):
        slow.check()
    await slow.end()
    other.check()
    assert not await lease_on(short, "a").take()


async def test_a_holder_that_finds_another_in_its_place_knows_that_it_is_lost(short: Bus) -> None:
    slow, other = lease_on(short, "a"), lease_on(short, "a")
    await slow.take()
    await until(other.take)

    async with asyncio.timeout(LEASE_S * 2):
        await slow.keep()

    assert slow.remaining_s == 0


async def test_a_write_whose_answer_was_lost_does_not_lose_the_lease(short: Bus) -> None:
    key = Key(short, "a", timeout_s=5.0)
    lease = lease_on(short, "a")
    await lease.take()
    entry = await key.entry()
    await key.set(entry.holder, revision=entry.revision)
    keeping = asyncio.create_task(lease.keep())
    await asyncio.sleep(LEASE_S)

    keeping.cancel()
    lease.check()
    assert not keeping.done()


async def test_a_server_that_is_gone_ends_the_certainty_and_not_the_block(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    bus = await connect(server.config())
    await make_bucket(bus)
    async with leases(bus).holding("a") as lease:

        async def is_short() -> bool:
            return lease.remaining_s < LEASE_S / 3

        await server.kill()
        await until(is_short)

        with pytest.raises(DatasetBusy):
            lease.check()
    with pytest.raises(BusUnavailable):
        async with leases(bus).holding("a"):
            pass


async def test_a_bucket_that_is_missing_is_refused_with_the_remedy(nats_server: NatsServer, connect: BusFactory) -> None:
    bus = await connect(msgspec.structs.replace(nats_server.config(), stream="NOBODYS"))

    with pytest.raises(Refused, match="episodeflow provision"):
        async with leases(bus).holding("a"):
            pass


async def test_provisioned_bucket_serves(bus: Bus, storage_config: StorageConfig) -> None:
    async with Leases(bus).holding(str(storage_config.sources[0])) as lease:
        lease.check()

        assert lease.remaining_s > 6
