"""A forwarding on a recorder's folder, without a saver around it, and the bucket it sends to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from services.recorder.saving.forwarding import Forwarding
from services.recorder.saving.strays import Strays
from services.recorder.saving.traces import Traces
from shared.config import BosConfig
from shared.places import Place
from shared.store import Patience, Store, StorePool

CAMERAS = ("left", "top")


class Sender:
    """A forwarding on a recorder's folder, and the bucket it sends to."""

    def __init__(self, folder: Path, stores: StorePool, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.traces = Traces(folder)
        self.forwarding = Forwarding(folder, stores=stores, place_of=self.place)
        self.strays = Strays(folder, stores=stores, is_being_sent=self.forwarding.is_at)

    def place(self, episode_id: str) -> Place:
        return Place(self.store.uri, f"raw_datas/{episode_id}/")

    def record(self, episode_id: str, *times_us: int) -> None:
        for camera in CAMERAS:
            folder = self.folder / "recording" / episode_id / "images" / camera
            folder.mkdir(parents=True, exist_ok=True)
            for time_us in times_us:
                (folder / ".part-image").write_bytes(b"%d" % time_us)
                (folder / ".part-image").rename(folder / f"{time_us}.jpg")

    async def keys(self, episode_id: str) -> list[str]:
        prefix = f"raw_datas/{episode_id}/"
        return sorted([info.key.removeprefix(prefix) async for info in self.store.list(prefix)])

    async def until_there(self, episode_id: str, *times_us: int) -> None:
        """Return once exactly these images are in the bucket."""
        async with asyncio.timeout(20.0):
            while await self.keys(episode_id) != images(*times_us):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a bucket tells nobody what arrives


def images(*times_us: int) -> list[str]:
    return sorted(f"images/{camera}/{time_us}.jpg" for camera in CAMERAS for time_us in times_us)


@asynccontextmanager
async def sending(folder: Path, bos: BosConfig) -> AsyncIterator[Sender]:
    for name in ("recording", "outbox"):
        (folder / name).mkdir(exist_ok=True)
    patience = Patience(connect_timeout_s=1.0, read_timeout_s=5.0, max_attempts=1)
    async with StorePool(bos, patience=patience) as stores:
        sender = Sender(folder, stores, await stores.at(f"s3://{bos.bucket}"))
        running = asyncio.create_task(sender.forwarding.run())
        try:
            yield sender
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
