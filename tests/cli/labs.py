"""A lab for tests of the operator's commands: a nats-server of its own, a storage file, and events to put on the stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from cli.main import commands
from cli.servers import NatsServer, ValkeyServer
from shared.bus import Bus
from shared.config import load_storage
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded
from shared.message import Receipt
from shared.provision import provision, provision_plan
from tests.services.converter.episodes import STRATEGY


class Lab:
    """Sources ``lab`` and ``other`` of one configuration, and a bus to their stream."""

    def __init__(self, folder: Path, bus: Bus) -> None:
        self.folder, self.bus = folder, bus
        self.config = folder / "storage.yaml"

    async def run(self, *arguments: str) -> Result:
        """Run a command as the command line would, beside this test's loop."""
        result = await asyncio.to_thread(CliRunner().invoke, commands, [*arguments, "-c", str(self.config)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    async def publish(self, event: EpisodeReady, message_id: str | None = None) -> Receipt:
        return await self.bus.publish(event, message_id=message_id or f"{time.monotonic_ns()}")

    async def fail(self, episode_id: str, error: str = "joints/left.parquet: is missing", **fields: Any) -> Receipt:
        return await self.publish(failed(episode_id, error, **fields))

    async def subjects(self) -> dict[str, int]:
        info = await self.bus.stream_info(subjects="episode.>")
        assert info is not None
        return info.state.subjects


@asynccontextmanager
async def opened_lab(folder: Path, valkey: ValkeyServer | None = None) -> AsyncIterator[Lab]:
    """Give a provisioned lab with a server of its own, below ``folder``."""
    async with NatsServer(folder / "nats") as server:
        write_storage(folder, server, valkey)
        storage, _ = load_storage(folder / "storage.yaml", {})
        async with await Bus.connect(storage.nats, name="test") as bus:
            await provision(bus, provision_plan(storage))
            yield Lab(folder, bus)


def write_storage(folder: Path, server: NatsServer, valkey: ValkeyServer | None = None) -> None:
    """Write storage.yaml and strategy.yaml for a running server; without a Valkey, Redis is where nobody answers."""
    user = server.users[0]
    redis = {"host": "127.0.0.1", "port": valkey.port, "password": valkey.password.reveal()} if valkey else {"host": "127.0.0.1", "port": 1}
    (folder / "store").mkdir(exist_ok=True)
    document = {
        "store": (folder / "store").as_uri(),
        "nats": {"servers": [server.url], "user": user.name, "password": user.password.reveal()},
        "redis": redis,
        "sources": ["lab", "other"],
        "output": {"pattern": "{source}/{episode_id}_{strategy}"},
        "bos": {"download": {"temp_dir": str(folder / "temp")}},
        "conversion": {"config_template": str(folder / "strategy.yaml")},
    }
    (folder / "storage.yaml").write_bytes(msgspec.yaml.encode(document))
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(STRATEGY))


def ready(episode_id: str, source: str = "lab", **fields: Any) -> EpisodeReady:
    return EpisodeReady(episode_id=episode_id, source=source, timestamp=1.5, **fields)


def converted(episode_id: str, source: str = "lab", strategy: Any = "nearest") -> EpisodeConverted:
    made = {"spool": "default", "path": "a/b", "frames": 9, "duration_s": 0.3, "num_bytes": 7, "digest": "sha256:1"}
    return EpisodeConverted(episode_id=episode_id, source=source, strategy=strategy, **made)  # type: ignore[arg-type]


def uploaded(episode_id: str, source: str = "lab", strategy: Any = "nearest") -> EpisodeUploaded:
    fields = msgspec.structs.asdict(converted(episode_id, source, strategy))
    return EpisodeUploaded(**fields, uri="file:///there")


def failed(episode_id: str, error: str = "joints/left.parquet: is missing", **fields: Any) -> EpisodeFailed:
    known: dict[str, Any] = {
        "source": "lab",
        "stage": "converter",
        "reason": "rejected",
        "error_type": "BadRaw",
        "attempts": 1,
        "host": "worker-1",
        "failed_at": time.time(),
    }
    return EpisodeFailed(episode_id=episode_id, error=error, **known | fields)
