"""A converter as a process against real servers, and everything it says about the events sent to it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from cli.servers import NatsServer
from shared import events
from shared.bus import Bus
from shared.config import RedisConfig
from shared.connection import Incoming
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady
from tests.corpus.hostile import SOURCE
from tests.services.converter.episodes import STRATEGY

_SEQ = re.compile(r"\(message (\d+) on ")


class Outcomes:
    """Collects what the service publishes: by the episode's id, or by the number of the message where it had none."""

    def __init__(self) -> None:
        self.by_name: dict[str, list[EpisodeReady]] = defaultdict(list)
        self.num_outcomes = 0
        self._changed = asyncio.Event()

    def take(self, incoming: Incoming) -> None:
        """Note an outcome."""
        failed = ".failed." in incoming.subject
        event: EpisodeReady = events.decode(incoming.body, EpisodeFailed if failed else EpisodeConverted)
        unread = _SEQ.search(event.error) if isinstance(event, EpisodeFailed) else None
        self.by_name[unread[1] if unread else event.episode_id].append(event)
        self.num_outcomes += 1
        self._changed.set()

    async def until(self, count: int) -> None:
        """Wait for so many outcomes."""
        while self.num_outcomes < count:
            self._changed.clear()
            await self._changed.wait()


async def published(bus: Bus, body: bytes) -> str:
    """Publish a body as it is and return the number the stream gave it."""
    answer = await bus.connection.ask(f"episode.ready.{SOURCE}", body, timeout_s=10.0)
    return str(msgspec.json.decode(answer)["seq"])


def write_storage(folder: Path, nats: NatsServer, redis: RedisConfig) -> Path:
    """Write the configuration of a converter whose store, spool and work lie below ``folder``."""
    config = nats.config()
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(STRATEGY))
    assert config.password is not None
    assert redis.password is not None
    document: dict[str, Any] = {
        "store": (folder / "store").as_uri(),
        "nats": {"servers": list(config.servers), "user": config.user, "password": config.password.reveal()},
        "redis": {"host": redis.host, "port": redis.port, "password": redis.password.reveal(), "max_workers": 2},
        "bos": {"download": {"temp_dir": str(folder / "work")}},
        "sources": [SOURCE],
        "conversion": {"config_template": str(folder / "strategy.yaml"), "spool": {"path": str(folder / "spool")}},
    }
    path = folder / "storage.yaml"
    path.write_bytes(msgspec.yaml.encode(document))
    return path


@asynccontextmanager
async def running_converter(storage: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the converter until the context ends; its log lies beside its configuration."""
    with (storage.parent / "converter.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.converter", "-c", str(storage), stdout=log, stderr=log, env=os.environ
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(30):
            await process.wait()
