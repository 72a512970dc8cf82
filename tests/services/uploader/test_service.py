"""The uploader against a real bus and ledger, into folders and into S3."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.uploader.growing import GrowingDatasets
from services.uploader.plan import INFO, MANIFEST
from services.uploader.service import Uploader
from shared.bus import Bus
from shared.config import BosConfig, RedisConfig, StorageConfig, decode_strategy
from shared.consumer import Delivery
from shared.errors import BadDataset, BadEvent
from shared.events import EpisodeConverted
from shared.leases import Leases
from shared.ledger import Ledger
from shared.places import resolve
from shared.store import Store, StorePool

STRATEGY = decode_strategy(
    {
        "robot": {"type": "so100", "arms": [{"name": "left", "role": "slave"}], "joints_per_arm": 7},
        "cameras": [{"name": "front", "role": "base", "target_fps": 25}],
        "alignment": {"strategy": "nearest"},
    },
    place="test",
)
TARGET = "converted_datas/e1_nearest/"


class Lab:
    """An uploader, its spool and its target store."""

    def __init__(self, *, bus: Bus, ledger: Ledger, stores: StorePool, storage: StorageConfig, store: Store, spool: Path) -> None:
        self.bus, self.ledger, self.store, self.spool, self.source = bus, ledger, store, spool, str(storage.sources[0])
        self.stores = stores
        self.places = resolve(msgspec.structs.replace(storage, store=store.uri), STRATEGY, here="/", home="/")
        self.uploader = self.with_ledger(ledger)

    def with_ledger(self, ledger: Ledger) -> Uploader:
        growing = GrowingDatasets(stores=self.stores, places=self.places, leases=Leases(self.bus), folder=self.spool, parallel_uploads=4)
        return Uploader(
            bus=self.bus, ledger=ledger, stores=self.stores, places=self.places, spool=self.spool, parallel_uploads=4, growing=growing
        )

    def put_part(self, *, digest: str = "sha256:aaa", extra: str = "videos/v.mp4", folder: str = "e1") -> Path:
        for path, body in self.contents(digest, extra).items():
            target = self.spool / self.source / folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return self.spool / self.source / folder

    def contents(self, digest: str = "sha256:aaa", extra: str = "videos/v.mp4") -> dict[str, bytes]:
        origin = {"source": self.source, "episode_id": "e1", "strategy": "nearest", "digest": digest}
        manifest = msgspec.json.encode(origin)
        return {"data/a.parquet": b"rows", "meta/tasks.jsonl": b"{}", INFO: b"{}", extra: b"video", MANIFEST: manifest}

    async def deliver(self, *, seq: int = 1, digest: str = "sha256:aaa", **fields: object) -> None:
        known = {"path": f"{self.source}/e1", "frames": 1, "duration_s": 1.0, "strategy": "nearest", "spool": self.source}
        known["num_bytes"] = sum(map(len, self.contents(digest).values()))
        event = msgspec.convert({"episode_id": "e1", "source": self.source, "digest": digest, **known, **fields}, EpisodeConverted)
        await self.uploader.handle(Delivery(event=event, subject="episode.converted.x", seq=seq, attempt=1, timestamp_s=0.0))

    async def keys(self) -> list[str]:
        return sorted([info.key.removeprefix(TARGET) async for info in self.store.list(TARGET)])

    async def num_uploaded(self) -> int:
        subject = f"episode.uploaded.{self.source}"
        info = await self.bus.stream_info(subjects=subject)
        assert info is not None
        return (info.state.subjects or {}).get(subject, 0)


@pytest.fixture
async def lab(bus: Bus, storage_config: StorageConfig, store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    bos: BosConfig = request.getfixturevalue("bos") if store.uri.startswith("s3:") else BosConfig()
    async with Ledger(storage_config.redis) as ledger, StorePool(bos) as stores:
        yield Lab(bus=bus, ledger=ledger, stores=stores, storage=storage_config, store=store, spool=tmp_path / "spool")


WHOLE = sorted(["data/a.parquet", MANIFEST, INFO, "meta/tasks.jsonl", "videos/v.mp4"])


async def test_a_part_arrives_whole_is_announced_counted_and_leaves_the_spool(lab: Lab) -> None:
    lab.put_part()

    await lab.deliver()

    assert await lab.keys() == WHOLE
    assert await lab.num_uploaded() == 1
    assert (await lab.ledger.stats(lab.source)).completed == 1
    assert list(lab.spool.iterdir()) == []


async def test_the_same_message_again_after_the_spool_was_emptied_changes_nothing(lab: Lab) -> None:
    lab.put_part()
    await lab.deliver()

    await lab.deliver()

    assert await lab.num_uploaded() == 1
    assert (await lab.ledger.stats(lab.source)).completed == 1


async def test_another_version_replaces_the_old_one_without_its_stale_files(lab: Lab) -> None:
    lab.put_part(extra="videos/old.mp4")
    await lab.deliver()
    lab.put_part(digest="sha256:bbb")

    await lab.deliver(seq=2, digest="sha256:bbb")

    assert await lab.keys() == WHOLE
    assert b"bbb" in await lab.store.get_bytes(TARGET + MANIFEST)
    assert await lab.num_uploaded() == 2


async def test_a_half_finished_upload_is_completed(lab: Lab) -> None:
    await lab.store.put_bytes(b"ro", TARGET + "data/a.parquet")
    lab.put_part()

    await lab.deliver()

    assert await lab.keys() == WHOLE
    assert await lab.store.get_bytes(TARGET + "data/a.parquet") == b"rows"


async def test_a_spool_without_the_part_and_a_target_without_it_is_rejected(lab: Lab) -> None:
    with pytest.raises(BadDataset, match=r"episode\.ready"):
        await lab.deliver()

    assert await lab.num_uploaded() == 0


async def test_a_part_with_another_digest_than_the_event_is_rejected(lab: Lab) -> None:
    lab.put_part(digest="sha256:ccc")

    with pytest.raises(BadDataset, match="sha256:ccc"):
        await lab.deliver()

    assert await lab.keys() == []


@pytest.mark.parametrize("path", ["../outside", "/etc", "a/../../b"])
async def test_a_path_out_of_the_spool_is_a_bad_event(lab: Lab, path: str) -> None:
    with pytest.raises(BadEvent, match="spool"):
        await lab.deliver(path=path)


async def test_without_redis_the_upload_goes_on(lab: Lab) -> None:
    lab.put_part()
    async with Ledger(RedisConfig(host="127.0.0.1", port=1)) as away:
        lab.uploader = lab.with_ledger(away)
        await lab.deliver()

    assert await lab.num_uploaded() == 1


async def test_a_part_without_info_shows_nothing(lab: Lab) -> None:
    lab.put_part()
    (lab.spool / lab.source / "e1" / INFO).unlink()

    with pytest.raises(BadDataset, match=INFO):
        await lab.deliver()

    assert await lab.keys() == []


async def test_the_same_episode_twice_at_once_is_brought_once_and_neither_fails(lab: Lab) -> None:
    lab.put_part()

    await asyncio.gather(*(lab.deliver(seq=seq) for seq in (1, 2, 3)))

    assert await lab.keys() == WHOLE
    assert (await lab.ledger.stats(lab.source)).completed == 1
    assert list(lab.spool.iterdir()) == []


async def test_a_dataset_that_comes_when_its_target_is_complete_is_tidied_away_and_others_stay(lab: Lab) -> None:
    lab.put_part()
    await lab.deliver()
    late = lab.put_part(folder="e1_nearest/0123")
    new = lab.put_part(folder="e1_nearest/4567", digest="sha256:new")

    num_removed = await lab.uploader.tidy(is_full=True)

    assert num_removed == 1
    assert not late.exists()
    assert new.exists()


async def test_a_file_that_the_store_lost_is_sent_again_from_a_part_and_missed_without_one(lab: Lab) -> None:
    lab.put_part()
    await lab.deliver()
    await lab.store.delete([f"{TARGET}videos/v.mp4"])
    with pytest.raises(BadDataset, match=r"does not hold it: publish episode\.ready again"):
        await lab.deliver()
    part = lab.put_part(folder="e1_nearest/0123")
    num_removed = await lab.uploader.tidy(is_full=True)
    await lab.deliver(path=part.relative_to(lab.spool).as_posix())

    assert num_removed == 0
    assert await lab.keys() == WHOLE
