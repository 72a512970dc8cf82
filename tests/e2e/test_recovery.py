"""R23: what is lost can be had back. Real servers; each test is a page of the operators' manual."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from cli.servers import NatsServer, ValkeyServer
from services.scanner.service import Scanner
from shared.bus import Bus
from shared.config import BosConfig, ScannerConfig, load_storage
from shared.consumer import Consumer, Delivery, Work
from shared.errors import BadRaw
from shared.events import EpisodeReady, EpisodeUploaded
from shared.ledger import Ledger
from shared.places import resolve
from shared.provision import ANY_DURABLE, provision, provision_plan
from shared.store import StorePool
from tests.cli.labs import Lab, opened_lab, ready, uploaded, write_storage
from tests.services.converter.episodes import strategy, write_episode

DURABLES = ("converter-lab", "converter-other", ANY_DURABLE)


async def served(bus: Bus, num_messages: int, *, is_broken: bool = False) -> list[str]:
    """Serve so many ready events as a converter and an uploader in one would, or reject them all; return the episodes' names."""
    stopping = asyncio.Event()
    names: list[str] = []

    async def handle(delivery: Delivery[EpisodeReady]) -> EpisodeUploaded:
        names.append(delivery.event.episode_id)
        if len(names) == num_messages:
            stopping.set()
        if is_broken:
            raise BadRaw("joints/left.parquet", "is missing")
        return uploaded(delivery.event.episode_id, delivery.event.source)

    work = Work(stage="converter", durables=DURABLES, event_type=EpisodeReady, handler=handle)
    async with asyncio.timeout(30):
        await Consumer(bus, work).run(stopping)
    return sorted(names)


async def test_jetstream_restored_from_a_copy_goes_on_where_it_was(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "old") as server:
        write_storage(tmp_path, server)
        storage, _ = load_storage(tmp_path / "storage.yaml", {})
        async with await Bus.connect(storage.nats, name="test") as bus:
            await provision(bus, provision_plan(storage))
            for name in ("ep_1", "ep_2", "ep_3", "ep_4"):
                await bus.publish(ready(name), message_id=name)
            assert await served(bus, 2) == ["ep_1", "ep_2"]
    shutil.copytree(tmp_path / "old" / "jetstream", tmp_path / "new" / "jetstream")
    shutil.rmtree(tmp_path / "old")

    async with NatsServer(tmp_path / "new") as server, await Bus.connect(server.config(), name="test") as bus:
        changes = await provision(bus, provision_plan(storage))
        repeated = await bus.publish(ready("ep_4"), message_id="ep_4")
        left = await served(bus, 2)
        info = await bus.stream_info(subjects="episode.>")

    assert {change.done for change in changes} == {"unchanged"}
    assert repeated.duplicate, "the duplicate window survives, too"
    assert left == ["ep_3", "ep_4"]
    assert info is not None
    assert info.state.subjects == {"episode.ready.lab": 4, "episode.uploaded.lab": 4}


async def test_valkey_restored_from_a_copy_has_markers_counters_and_position(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path / "old") as server, Ledger(server.config()) as ledger:
        await ledger.record("lab", "ep_1", strategy="nearest", state="completed", token="1")
        await ledger.set_scan_position("raw_datas/ep_1")
    shutil.copytree(tmp_path / "old" / "appendonlydir", tmp_path / "new" / "appendonlydir")

    async with ValkeyServer(tmp_path / "new") as server, Ledger(server.config()) as ledger:
        assert await ledger.states("lab", "ep_1") == {"nearest": "completed"}
        assert (await ledger.stats("lab")).completed == 1
        assert await ledger.scan_position() == "raw_datas/ep_1"
        assert not await ledger.record("lab", "ep_1", strategy="nearest", state="completed", token="1"), "a replay still counts once"


@asynccontextmanager
async def scanning(lab: Lab, valkey: ValkeyServer) -> AsyncIterator[Scanner]:
    """Give a scanner of the lab with a Redis of its own."""
    storage, _ = load_storage(lab.config, {})
    async with AsyncExitStack() as stack:
        yield Scanner(
            bus=lab.bus,
            ledger=await stack.enter_async_context(Ledger(valkey.config())),
            stores=await stack.enter_async_context(StorePool(BosConfig())),
            places=resolve(storage, strategy(), here="/", home="/"),
            config=ScannerConfig(min_episode_files=3, settle_s=0),
            strategy=strategy(),
        )


async def test_full_scan_after_losing_redis_announces_everything_and_the_stream_keeps_each_once(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        for name in ("ep_1", "ep_2"):
            write_episode(tmp_path / "store" / "raw_datas" / "lab", name, seconds=0.2)
        async with ValkeyServer(tmp_path / "first") as valkey, scanning(lab, valkey) as scanner:
            first = await scanner.once(asyncio.Event(), is_full=False)
        async with ValkeyServer(tmp_path / "empty") as valkey, scanning(lab, valkey) as scanner:
            write_episode(tmp_path / "store" / "raw_datas" / "lab", "ep_3", seconds=0.2)
            await scanner.once(asyncio.Event(), is_full=True)
            again = await scanner.once(asyncio.Event(), is_full=True)

        assert sorted(first.published) == ["lab/ep_1", "lab/ep_2"]
        assert again.published == ()
        assert await lab.subjects() == {"episode.ready.lab": 3}


async def test_everything_failed_is_republished_by_one_command_and_recovers(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        for name in ("ep_1", "ep_2", "ep_3"):
            await lab.publish(ready(name))
        await served(lab.bus, 3, is_broken=True)
        before = await lab.run("failed", "list", "--json")

        result = await lab.run("failed", "republish", "--all")
        recovered = await served(lab.bus, 3)
        after = await lab.run("failed", "list", "--json")

    documents = [msgspec.json.decode(listed.stdout) for listed in (before, after)]
    assert [(document["failures"], document["recovered"]) for document in documents] == [(3, 0), (0, 3)]
    assert (result.exit_code, recovered) == (0, ["ep_1", "ep_2", "ep_3"])
