"""A recorder's folder with real servers around it, episodes to save, and what the stream and the store hold afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cli.servers import NatsServer
from services.recorder.saver import Saver, running_saver
from services.recorder.saving.episode import ArmSamples, FinishedEpisode
from services.recorder.saving.news import SaverNews
from shared import events
from shared.bus import Bus
from shared.config import RedisConfig, StorageConfig
from shared.events import EpisodeReady
from shared.provision import provision, provision_plan
from tests.fixtures_bus import storage_for
from tests.services.converter.episodes import STRATEGY

ARMS = ("left_slave", "left_master", "right_slave", "right_master")
CAMERAS = ("cam_env", "cam_wrist")
START_US = 1_764_564_821_000_000
DATASET = "lab/stacking"
DEADLINE_S = 40.0


class RecorderLab:
    """A recorder's folder and its storage file.

    Attributes:
        news: everything that a saver told, in order.
    """

    def __init__(self, folder: Path, *, nats: NatsServer, redis: RedisConfig, source: str, store: str | None = None) -> None:
        self.folder = folder / "recorder"
        self.store_folder = folder / "store"
        self.config_path = folder / "storage.yaml"
        self.source = source
        self.news: list[SaverNews] = []
        self._arrived = asyncio.Event()
        self.storage: StorageConfig = storage_for(nats, source)
        self._write_config(folder, nats, redis, store or self.store_folder.as_uri())

    def _write_config(self, folder: Path, nats: NatsServer, redis: RedisConfig, store: str) -> None:
        user = nats.users[0]
        document: dict[str, Any] = {
            "store": store,
            "nats": {"servers": [nats.url], "user": user.name, "password": user.password.reveal(), "connect_timeout_s": 2.0},
            "redis": {"host": redis.host, "port": redis.port, "password": redis.password.reveal() if redis.password else None},
            "sources": [self.source],
            "conversion": {"config_template": str(folder / "strategy.yaml"), "spool": {"name": self.source}},
        }
        self.config_path.write_bytes(msgspec.yaml.encode(document))
        (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(STRATEGY))

    def add_config(self, section: str, content: dict[str, Any]) -> None:
        """Put one more section into the storage file."""
        document = msgspec.yaml.decode(self.config_path.read_bytes())
        self.config_path.write_bytes(msgspec.yaml.encode({**document, section: content}))

    async def provision(self) -> None:
        """Make the stream."""
        async with await Bus.connect(self.storage.nats, name="test") as bus:
            await provision(bus, provision_plan(self.storage))

    # --- the saver ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def saver(self) -> AsyncIterator[Saver]:
        """Run a saver on the folder, and keep its news."""
        async with running_saver(self.folder, config_path=self.config_path, source=self.source, on_progress=self.hear) as saver:
            yield saver

    def hear(self, news: SaverNews) -> None:
        """Keep news, and wake whoever waits for some."""
        self.news.append(news)
        self._arrived.set()

    def told(self, kind: type[Any]) -> list[Any]:
        """Return the news of one kind, in order."""
        return [news for news in self.news if isinstance(news, kind)]

    async def wait_for(self, kind: type[Any], *, count: int = 1) -> list[Any]:
        """Return the news of one kind once there are so many of it."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.told(kind)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.told(kind)

    # --- episodes -----------------------------------------------------------------------------------------

    def record(self, episode_id: str, *, num_frames: int = 6, **fields: Any) -> FinishedEpisode:
        """Write the images of an episode as the camera process does, and return it with its samples."""
        folder = self.folder / "recording" / episode_id
        for camera in CAMERAS:
            (folder / "images" / camera).mkdir(parents=True)
            for index in range(num_frames):
                self.write_image(episode_id, camera, index)
        event = EpisodeReady(episode_id=episode_id, source=self.source, timestamp=time.time(), dataset=DATASET, task="Stack.", **fields)
        return FinishedEpisode(event=event, folder=folder, arms=arms(), metadata={"robot_type": "lab", "fps": 30}, num_frames=num_frames)

    def write_image(self, episode_id: str, camera: str, index: int) -> None:
        """Write one image as the camera process does: it has its name when it is complete."""
        folder = self.folder / "recording" / episode_id / "images" / camera
        unfinished = folder / f".part-{index}"
        unfinished.write_bytes(image_of(episode_id, camera, index))
        unfinished.rename(folder / f"{START_US + 33_333 * index}.jpg")

    # --- what came out ------------------------------------------------------------------------------------

    async def ready_events(self) -> list[EpisodeReady]:
        """Return what the stream holds of our source, in order."""
        found: list[EpisodeReady] = []
        async with await Bus.connect(self.storage.nats, name="test") as bus:
            seq = 1
            while stored := await bus.stored(seq, next_on=f"episode.ready.{self.source}"):
                found.append(events.decode(stored.body, EpisodeReady))
                seq = stored.seq + 1
        return found

    async def ready_ids(self) -> list[str]:
        """Return the names of the announced episodes, in order."""
        return [event.episode_id for event in await self.ready_events()]

    def raw(self, episode_id: str) -> Path:
        """Return where an episode is in the file store."""
        return self.store_folder / "raw_datas" / episode_id

    def outbox(self) -> list[str]:
        """Return what waits."""
        return sorted(path.name for path in (self.folder / "outbox").iterdir())


def arms(*, num_samples: int = 40, num_joints: int = 7) -> tuple[ArmSamples, ...]:
    """Return samples of four arms."""
    generator = np.random.default_rng(5)
    times_us = START_US + 5000 * np.arange(num_samples, dtype=np.int64)
    return tuple(ArmSamples(arm=arm, times_us=times_us, values=generator.normal(size=(num_samples, num_joints))) for arm in ARMS)


def image_of(episode_id: str, camera: str, index: int) -> bytes:
    """Return what the images of the lab hold: bytes that no other one has."""
    return f"{episode_id} {camera} {index} ".encode() * 50


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once a condition holds; nobody tells when that is."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # it happens in another process
