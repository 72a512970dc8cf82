"""The scanner against a real bus, a real ledger and a folder store."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.scanner.service import Scanner
from shared.bus import Bus
from shared.config import BosConfig, DatasetsConfig, RedisConfig, ScannerConfig, StorageConfig, StrategyConfig, decode_strategy
from shared.errors import BusUnavailable, LedgerUnavailable, Refused
from shared.events import EpisodeReady, decode
from shared.ledger import Ledger
from shared.lerobot.commit import commit
from shared.places import resolve
from shared.store import StorePool
from tests.shared.lerobot.parts import make_part

STRATEGY: StrategyConfig = decode_strategy(
    {
        "robot": {"type": "so100", "arms": [{"name": "left", "role": "slave"}], "joints_per_arm": 7},
        "cameras": [{"name": "front", "role": "base", "target_fps": 25}],
        "alignment": {"strategy": "nearest"},
    },
    place="test",
)


def put_episode(root: Path, name: str, *, age_s: float = 100.0, has_camera: bool = True) -> None:
    for tail in ("joints/left.parquet", *(["images/front/1.jpg", "images/front/2.jpg"] if has_camera else [])):
        path = root / "raw_datas" / name / tail
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s,) * 2)


@pytest.fixture
async def ledger(redis_config: RedisConfig, source: str) -> AsyncIterator[Ledger]:
    async with Ledger(redis_config, scan_key=f"bos:last_scanned_key:{source}") as opened:
        yield opened


@pytest.fixture
async def stores() -> AsyncIterator[StorePool]:
    async with StorePool(BosConfig()) as opened:
        yield opened


class Lab:
    """A scanner and what it sees."""

    def __init__(self, *, bus: Bus, ledger: Ledger, stores: StorePool, storage: StorageConfig, root: Path) -> None:
        self.bus, self.ledger, self.root, self.source = bus, ledger, root, str(storage.sources[0])
        root.mkdir()
        self._stores = stores
        self.storage = msgspec.structs.replace(storage, store=root.as_uri(), datasets=DatasetsConfig(root=str(root / "datasets")))

    def scanner(
        self, *, ledger: Ledger | None = None, settle_s: float = 10.0, interval: float = 0.05, sweep_interval: float = 3600.0
    ) -> Scanner:
        return Scanner(
            bus=self.bus,
            ledger=ledger or self.ledger,
            stores=self._stores,
            places=resolve(self.storage, STRATEGY, here="/", home="/"),
            config=ScannerConfig(min_episode_files=3, settle_s=settle_s, interval=interval, sweep_interval=sweep_interval),
            strategy=STRATEGY,
        )

    async def num_announced(self) -> int:
        subject = f"episode.ready.{self.source}"
        info = await self.bus.stream_info(subjects=subject)
        assert info is not None
        return (info.state.subjects or {}).get(subject, 0)


@pytest.fixture
def lab(bus: Bus, ledger: Ledger, stores: StorePool, storage_config: StorageConfig, tmp_path: Path) -> Lab:
    return Lab(bus=bus, ledger=ledger, stores=stores, storage=storage_config, root=tmp_path / "store")


async def test_what_is_ready_is_announced_once_and_the_rest_waits_with_its_reason(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    put_episode(lab.root, "e2", has_camera=False)
    put_episode(lab.root, "e3")

    first = await lab.scanner().once(asyncio.Event(), is_full=False)
    second = await lab.scanner().once(asyncio.Event(), is_full=False)
    full = await lab.scanner().once(asyncio.Event(), is_full=True)

    assert first.published == (f"{lab.source}/e1", f"{lab.source}/e3")
    assert [waiting.episode_id for waiting in first.waiting] == ["e2"]
    assert "no frame in images/front/" in first.waiting[0].why
    assert (second.published, full.published) == ((), ())
    assert await lab.num_announced() == 2


async def test_the_next_scan_begins_at_the_first_episode_that_was_not_ready(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    put_episode(lab.root, "e2", has_camera=False)
    await lab.scanner().once(asyncio.Event(), is_full=False)
    position = await lab.ledger.scan_position()

    put_episode(lab.root, "e2")
    summary = await lab.scanner().once(asyncio.Event(), is_full=False)

    assert position == "raw_datas/e1/"
    assert (summary.found, summary.published) == (1, (f"{lab.source}/e2",))


async def test_once_waits_for_an_episode_that_is_only_too_young(lab: Lab) -> None:
    put_episode(lab.root, "e1", age_s=0.0)

    summary = await lab.scanner(settle_s=0.3).once(asyncio.Event(), is_full=False)

    assert summary.published == (f"{lab.source}/e1",)


async def test_a_crash_between_publish_and_claim_announces_one_message(lab: Lab) -> None:
    put_episode(lab.root, "e1")

    class DiesBeforeTheClaim(Ledger):
        async def claim_ready(self, source: str, episode_id: str, *, strategy: str | None, token: str) -> bool:
            raise LedgerUnavailable("gone")

    async with DiesBeforeTheClaim(lab.storage.redis) as dying:
        with pytest.raises(LedgerUnavailable):
            await lab.scanner(ledger=dying).scan(is_full=True)
    await lab.scanner().once(asyncio.Event(), is_full=True)

    assert await lab.num_announced() == 1


async def test_files_that_came_late_announce_the_episode_again(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    await lab.scanner().once(asyncio.Event(), is_full=False)
    (lab.root / "raw_datas/e1/images/front/2.jpg").write_bytes(b"longer")
    os.utime(lab.root / "raw_datas/e1/images/front/2.jpg", (1.0, 1.0))

    summary = await lab.scanner().once(asyncio.Event(), is_full=True)

    assert summary.published == (f"{lab.source}/e1",)


async def test_an_episode_that_its_producer_announced_is_left_alone(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    await lab.ledger.record(lab.source, "e1", strategy="nearest", state="completed", token="digest")

    summary = await lab.scanner().once(asyncio.Event(), is_full=True)

    assert summary.published == ()
    assert await lab.num_announced() == 0


async def test_without_redis_the_scanner_waits_and_stops_when_told(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    stopping = asyncio.Event()
    async with Ledger(RedisConfig(host="127.0.0.1", port=1)) as away:
        running = asyncio.create_task(lab.scanner(ledger=away).run(stopping, is_full=True))
        done, _ = await asyncio.wait({running}, timeout=0.3)
        stopping.set()
        summary = await running

    assert not done
    assert summary.published == ()
    assert await lab.num_announced() == 0


async def test_the_loop_finds_what_comes_later(lab: Lab) -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(lab.scanner().run(stopping, is_full=False))
    put_episode(lab.root, "e1")
    async with asyncio.timeout(10):
        while not await lab.num_announced():  # noqa: ASYNC110 - the stream is asked, nobody tells
            await asyncio.sleep(0.02)
    stopping.set()

    assert (await running).published == (f"{lab.source}/e1",)


async def test_a_sweep_finds_a_name_before_the_position_and_leaves_out_what_has_its_dataset(lab: Lab) -> None:
    put_episode(lab.root, "e5")
    await lab.scanner().once(asyncio.Event(), is_full=False)
    for name in ("e1", "e2"):
        put_episode(lab.root, name)
    target = lab.root / f"converted_datas/e2_{STRATEGY.alignment.strategy}/meta"
    target.mkdir(parents=True)
    (target / "info.json").write_text("{}")

    usual = await lab.scanner().scan(is_full=False)
    sweep = await lab.scanner().scan(is_full=False, is_sweep=True)

    assert usual.published == ()
    assert sweep.published == (f"{lab.source}/e1",)


def put_words(root: Path, name: str, **words: str) -> None:
    """Write what our recorder leaves beside its episode."""
    path = root / "raw_datas" / name / "joints" / "metadata.json"
    path.write_bytes(msgspec.json.encode({"nonce": "n1", "strategy": "window", **words}))
    os.utime(path, (time.time() - 100,) * 2)


async def test_a_recorders_episode_is_announced_for_its_growing_dataset(lab: Lab) -> None:
    put_episode(lab.root, "e1")
    put_words(lab.root, "e1", dataset="lab/blocks", task="Stack.")

    first = await lab.scanner().scan(is_full=False)
    stored = await lab.bus.stored(1, next_on=f"episode.ready.{lab.source}")
    again = await lab.scanner().scan(is_full=True)

    assert stored is not None
    event = decode(stored.body, EpisodeReady)
    assert (event.dataset, event.strategy, event.task) == ("lab/blocks", "window", "Stack.")
    assert (first.published, again.published) == ((f"{lab.source}/e1",), ())


async def test_a_sweep_leaves_out_what_is_in_its_growing_dataset(lab: Lab) -> None:
    for name in ("e1", "e2"):
        put_episode(lab.root, name)
        put_words(lab.root, name, dataset="lab/blocks")
    make_part(lab.root / "part", source=lab.source, episode_id="e1")
    commit(lab.root / "part", lab.root / "datasets" / "lab" / "blocks")

    sweep = await lab.scanner().scan(is_full=False, is_sweep=True)

    assert sweep.published == (f"{lab.source}/e2",)


async def test_the_loop_sweeps_once_in_a_while(lab: Lab) -> None:
    put_episode(lab.root, "e5")
    await lab.scanner().once(asyncio.Event(), is_full=False)
    put_episode(lab.root, "e1")
    stopping = asyncio.Event()
    running = asyncio.create_task(lab.scanner(sweep_interval=0.2).run(stopping, is_full=False))
    async with asyncio.timeout(10):
        while await lab.num_announced() < 2:  # noqa: ASYNC110 - the stream is asked, nobody tells
            await asyncio.sleep(0.02)
    stopping.set()

    assert (await running).published == (f"{lab.source}/e1",)


async def test_a_folder_that_is_not_there_is_refused_by_name(lab: Lab) -> None:
    lab.root.rmdir()

    with pytest.raises(Refused, match="does not exist"):
        await lab.scanner().once(asyncio.Event(), is_full=False)


async def test_a_bus_that_is_closed_for_good_ends_the_scanner_so_that_a_new_one_can_be_started(lab: Lab) -> None:
    await lab.bus.close()

    with pytest.raises(BusUnavailable, match="is closed"):
        await lab.scanner().run(asyncio.Event(), is_full=False)
