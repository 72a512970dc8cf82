"""Hosts that feed one growing dataset: an uploader with a spool of its own, and a look at the dataset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.uploader.growing import GrowingDatasets
from services.uploader.plan import MANIFEST
from services.uploader.service import Uploader
from shared import events
from shared.bus import Bus
from shared.config import BosConfig, DatasetsConfig, StorageConfig, decode_strategy
from shared.consumer import Delivery
from shared.events import EpisodeConverted, EpisodeUploaded
from shared.leases import Leases
from shared.ledger import Ledger
from shared.lerobot.check import check_dataset
from shared.places import Places, resolve
from shared.provision import uploader_durable
from shared.store import Store, StorePool
from tests.shared.lerobot.parts import make_part

DATASET = "me/stack"
PREFIX = f"datasets/{DATASET}/"
STRATEGY = decode_strategy(
    {
        "robot": {"type": "so100", "arms": [{"name": "left", "role": "slave"}], "joints_per_arm": 7},
        "cameras": [{"name": "front", "role": "base", "target_fps": 25}],
        "alignment": {"strategy": "nearest"},
    },
    place="test",
)


def places_of(storage: StorageConfig, store: Store) -> Places:
    """Return places whose growing datasets lie below ``datasets/`` of the store, whatever its kind."""
    configured = msgspec.structs.replace(storage, store=store.uri, datasets=DatasetsConfig(root=f"{store.uri}/datasets"))
    return resolve(configured, STRATEGY, here="/", home="/")


def put_part(spool: Path, source: str, *, seed: int, num_frames: int = 3, **options: Any) -> EpisodeConverted:
    """Leave a part in a spool as a converter would, and return the event that says so."""
    path = f"{source}/ep{seed}_nearest/0123"
    made = make_part(spool / path, seed=seed, num_frames=num_frames, source=source, **options)
    manifest = msgspec.json.decode((spool / path / MANIFEST).read_bytes())
    return EpisodeConverted(
        episode_id=manifest["episode_id"],
        source=source,
        strategy="nearest",
        dataset=DATASET,
        spool=source,
        path=path,
        frames=num_frames,
        duration_s=made.duration_s,
        num_bytes=made.num_bytes,
        digest=manifest["digest"],
    )


class Host:
    """One host: a spool, an uploader, and connections of its own."""

    def __init__(self, uploader: Uploader, *, spool: Path, bus: Bus, source: str) -> None:
        self.uploader, self.spool, self.bus, self.source = uploader, spool, bus, source

    def put_part(self, **options: Any) -> EpisodeConverted:
        return put_part(self.spool, self.source, **options)

    async def deliver(self, event: EpisodeConverted, *, seq: int = 1) -> None:
        await self.uploader.handle(Delivery(event=event, subject="episode.converted.x", seq=seq, attempt=1, timestamp_s=0.0))

    async def uploaded(self) -> list[EpisodeUploaded]:
        """Return what was announced, in the order of the stream."""
        found: list[EpisodeUploaded] = []
        seq = 1
        while stored := await self.bus.stored(seq, next_on=f"episode.uploaded.{self.source}"):
            found.append(events.decode(stored.body, EpisodeUploaded))
            seq = stored.seq + 1
        return found


@asynccontextmanager
async def opened_host(storage: StorageConfig, store: Store, spool: Path, *, bos: BosConfig | None = None) -> AsyncIterator[Host]:
    """Give a host with a bus, a ledger and stores of its own."""
    source = str(storage.sources[0])
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await Bus.connect(storage.nats, name="test"))
        stores = await stack.enter_async_context(StorePool(bos or BosConfig()))
        places = places_of(storage, store)
        leases = Leases(bus)
        growing = await stack.enter_async_context(
            GrowingDatasets(stores=stores, places=places, leases=leases, folder=spool, parallel_uploads=4)
        )
        uploader = Uploader(
            bus=bus,
            ledger=await stack.enter_async_context(Ledger(storage.redis)),
            stores=stores,
            places=places,
            spool=spool,
            parallel_uploads=4,
            growing=growing,
            durable=uploader_durable(source).name,
        )
        yield Host(uploader, spool=spool, bus=bus, source=source)


async def fetched(store: Store, folder: Path) -> Path:
    """Copy the dataset to a folder and return it."""
    async for info in store.list(PREFIX):
        await store.get(info.key, folder / info.key.removeprefix(PREFIX))
    return folder


async def problems(store: Store, folder: Path) -> list[str]:
    """Return what is wrong with the dataset: numbers, totals, tables, videos, statistics, provenance."""
    report = check_dataset(await fetched(store, folder))
    return [f"{found.path}: {found.problem}" for found in report.problems]
