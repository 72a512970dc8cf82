"""A recorder's folder whose episodes go to a bucket, and what the bucket holds."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from cli.s3_server import S3Server
from cli.servers import NatsServer
from shared.config import RedisConfig
from shared.entry import load
from shared.store import StorePool
from tests.fixtures_store import create_bucket
from tests.services.recorder.saving.labs import DEADLINE_S, RecorderLab


async def bucket_lab(folder: Path, nats: NatsServer, redis: RedisConfig, source: str, server: S3Server) -> RecorderLab:
    """Return a lab with a bucket of its own."""
    bucket = f"robots-{uuid.uuid4().hex[:12]}"
    await create_bucket(server, bucket)
    lab = RecorderLab(folder, nats=nats, redis=redis, source=source, store=f"s3://{bucket}")
    lab.add_config("bos", {"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key})
    await lab.provision()
    return lab


class Bucket:
    """What a lab's bucket holds."""

    def __init__(self, lab: RecorderLab) -> None:
        self._loaded = load(lab.config_path, {})

    async def names(self, episode_id: str) -> list[str]:
        """Return the objects of an episode."""
        prefix = f"raw_datas/{episode_id}/"
        async with StorePool(self._loaded.storage.bos) as stores:
            store = await stores.at(str(self._loaded.storage.store))
            return sorted([info.key.removeprefix(prefix) async for info in store.list(prefix)])

    async def content(self, episode_id: str, name: str) -> bytes:
        """Return one object."""
        async with StorePool(self._loaded.storage.bos) as stores:
            return await (await stores.at(str(self._loaded.storage.store))).get_bytes(f"raw_datas/{episode_id}/{name}")

    async def until_there(self, episode_id: str, *, num_objects: int) -> None:
        """Return once an episode has so many objects."""
        async with asyncio.timeout(DEADLINE_S):
            while len(await self.names(episode_id)) != num_objects:  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # a bucket tells nobody what arrives
