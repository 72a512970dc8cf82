"""The delivery loop on real servers: what keeps all episodes waiting, what holds one back, and what it can do without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from cli.servers import NatsServer, free_port
from services.recorder.saving.delivery import Delivery, raw_place
from services.recorder.saving.episode import Parcel
from services.recorder.saving.forwarding import Forwarding
from services.recorder.saving.news import Announced, Counted, Flowing, HeldBack, Waiting
from services.recorder.saving.outbox import Outbox
from shared.config import RedisConfig
from shared.entry import load
from shared.errors import BadConfig, BadEvent
from shared.events import EpisodeReady
from shared.ledger import Ledger
from shared.places import Place
from shared.store import StorePool
from tests.fixtures_bus import ServerFactory
from tests.services.recorder.saving.labs import RecorderLab


@asynccontextmanager
async def delivering(lab: RecorderLab) -> AsyncIterator[tuple[Outbox, Delivery]]:
    """Run a delivery on the lab's folder in this process."""
    outbox = Outbox(lab.folder)
    loaded = load(lab.config_path, {})
    async with StorePool(loaded.storage.bos) as stores:
        nothing_ahead = Forwarding(lab.folder, stores=stores, place_of=lambda name: Place(str(loaded.storage.store), f"{name}/"))
        delivery = Delivery(loaded, outbox, lab.hear, stores=stores, forwarding=nothing_ahead)  # type: ignore[arg-type]
        running = asyncio.create_task(delivery.run())
        try:
            yield outbox, delivery
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            outbox.close()


def save(lab: RecorderLab, outbox: Outbox, episode_id: str) -> Parcel:
    return outbox.save(lab.record(episode_id), f"nonce-{episode_id}")[0]


async def until_counted(lab: RecorderLab, *, num_waiting: int) -> None:
    """Return once the last count is this one."""
    count = 1
    while (await lab.wait_for(Counted, count=count))[-1].num_waiting != num_waiting:
        count = len(lab.told(Counted)) + 1


async def test_a_missing_stream_keeps_everything_waiting_and_provisioning_lets_it_flow(
    tmp_path: Path, private_nats: ServerFactory, redis_config: RedisConfig
) -> None:
    lab = RecorderLab(tmp_path, nats=await private_nats(), redis=redis_config, source="lab")
    async with delivering(lab) as (outbox, delivery):
        for name in ("e1", "e2"):
            delivery.add(save(lab, outbox, name))
        [waiting] = await lab.wait_for(Waiting)
        await lab.provision()
        await lab.wait_for(Announced, count=2)

    assert "episodeflow provision" in waiting.reason or "does not acknowledge" in waiting.reason
    assert lab.told(HeldBack) == []
    assert len(lab.told(Flowing)) == 1
    assert await lab.ready_ids() == ["e1", "e2"]


async def test_without_redis_episodes_are_delivered_all_the_same(tmp_path: Path, nats_server: NatsServer, source: str) -> None:
    nobody = RedisConfig(host="127.0.0.1", port=free_port())
    lab = RecorderLab(tmp_path, nats=nats_server, redis=nobody, source=source)
    await lab.provision()
    async with delivering(lab) as (outbox, delivery):
        delivery.add(save(lab, outbox, "e1"))
        await until_counted(lab, num_waiting=0)

    assert await lab.ready_ids() == ["e1"]
    assert lab.outbox() == []


async def test_a_parcel_given_twice_is_delivered_once(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str
) -> None:
    lab = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await lab.provision()
    async with delivering(lab) as (outbox, delivery):
        parcel = save(lab, outbox, "e1")
        delivery.add(parcel)
        delivery.add(parcel)
        delivery.add(save(lab, outbox, "e2"))
        await until_counted(lab, num_waiting=0)

    assert [news.episode_id for news in lab.told(Announced)] == ["e1", "e2"]
    assert lab.told(HeldBack) == []


async def test_an_episode_announced_before_a_crash_is_not_doubled_and_leaves_the_outbox(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str
) -> None:
    lab = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await lab.provision()
    async with delivering(lab) as (outbox, delivery):
        parcel = save(lab, outbox, "e1")
        body = (outbox.outbox / "e1" / "event.json").read_bytes()
        delivery.add(parcel)
        await until_counted(lab, num_waiting=0)
    # As a power cut leaves it: stored and announced, but not yet out of the outbox.
    (lab.folder / "outbox" / "e1").mkdir()
    (lab.folder / "outbox" / "e1" / "event.json").write_bytes(body)
    async with delivering(lab) as (outbox, delivery):
        delivery.add(outbox.parcels()[0])
        await until_counted(lab, num_waiting=0)

    assert await lab.ready_ids() == ["e1"]
    assert lab.outbox() == []
    assert [news.seq for news in lab.told(Announced)] == [lab.told(Announced)[0].seq] * 2


async def test_the_mark_in_the_ledger_is_made_for_the_scanners_strategy_too(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str
) -> None:
    lab = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await lab.provision()
    async with delivering(lab) as (outbox, delivery):
        delivery.add(outbox.save(lab.record("e1", strategy="window"), "nonce")[0])
        await until_counted(lab, num_waiting=0)
    async with Ledger(redis_config) as ledger:
        states = await ledger.states(source, "e1")

    assert states == {"window": "ready", "nearest": "ready"}


async def test_an_event_too_large_for_readers_is_held_back_and_the_next_one_goes(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str
) -> None:
    lab = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await lab.provision()
    async with delivering(lab) as (outbox, delivery):
        large = lab.record("e1", config_overrides={"x": "y" * 600_000})
        delivery.add(outbox.save(large, "nonce")[0])
        delivery.add(save(lab, outbox, "e2"))
        [held_back] = await lab.wait_for(HeldBack)
        await until_counted(lab, num_waiting=1)

    assert "the limit is" in held_back.sentence
    assert (await lab.ready_ids(), lab.outbox()) == (["e2"], ["e1"])


def test_a_source_of_local_folders_is_nothing_to_record_for(tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig) -> None:
    lab = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source="local")
    strategy = msgspec.yaml.decode((tmp_path / "strategy.yaml").read_bytes())
    (tmp_path / "strategy.yaml").write_bytes(msgspec.yaml.encode({**strategy, "input": {"data_path": str(tmp_path)}}))
    places = load(lab.config_path, {}).places()

    with pytest.raises(BadConfig, match="the source 'local' reads local folders"):
        raw_place(places, EpisodeReady(episode_id="e1", source="local"))
    with pytest.raises(BadEvent, match="is not configured"):
        raw_place(places, EpisodeReady(episode_id="e1", source="other"))
