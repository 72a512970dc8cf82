"""`episodeflow up` as a process, and what a test needs of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from cli.state import Endpoints
from shared.bus import Bus
from shared.config import NatsConfig, RedisConfig
from shared.ledger import Ledger, Stats
from shared.settings import Secret
from tests.services.converter.episodes import STRATEGY

EPISODEFLOW = str(Path(sys.executable).with_name("episodeflow"))
_READY_TIMEOUT_S = 60.0


class Up:
    """A running `episodeflow up`."""

    def __init__(self, process: asyncio.subprocess.Process, state: Path) -> None:
        self.process = process
        self.state = state

    def endpoints(self) -> Endpoints:
        """Return what the stack says of itself."""
        return msgspec.json.decode((self.state / "endpoints.json").read_bytes(), type=Endpoints)

    async def until_ready(self) -> None:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while True:
                # After an `up` that was killed, its endpoints are still there until the next one has looked at them.
                if (self.state / "endpoints.json").exists() and self.endpoints().pids["up"] == self.process.pid:
                    return
                assert self.process.returncode is None, f"up ended with {self.process.returncode}: see {self.state}.up.log"
                await asyncio.sleep(0.05)

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        """Run a command against this stack and return its status, output and errors."""
        return await run_command(*arguments, "-c", str(self.state / "storage.yaml"), environ=environ)

    def bus(self) -> Any:
        nats = self.endpoints().nats
        return Bus.connect(NatsConfig(servers=(nats.url,), user=nats.user, password=Secret(nats.password)), name="test")

    async def until_completed(self, source: str, count: int) -> Stats:
        """Wait until so many episodes of a source are counted as completed, and return its counters."""
        redis = self.endpoints().redis
        config = RedisConfig(host=redis.host, port=redis.port, password=Secret(redis.password))
        async with Ledger(config) as ledger, asyncio.timeout(40):
            while True:
                stats = await ledger.stats(source)
                if stats.completed >= count:
                    return stats
                await asyncio.sleep(0.02)


async def run_command(*arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        EPISODEFLOW, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, **(environ or {})}
    )
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:  # the test ran out of time: nothing may stay behind
            process.terminate()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def up(state: Path, *arguments: str, environ: Mapping[str, str] | None = None, is_waiting: bool = True) -> AsyncIterator[Up]:
    state.parent.mkdir(parents=True, exist_ok=True)
    with (state.parent / f"{state.name}.up.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            EPISODEFLOW, "up", "--state", str(state), *arguments, stdout=log, stderr=log, env={**os.environ, **(environ or {})}
        )
    running = Up(process, state)
    try:
        if is_waiting:
            await running.until_ready()
        yield running
    finally:
        await running.stop()


def write_config(folder: Path, **sections: Any) -> Path:
    """Write a strategy and a storage file for the small synthetic episodes, and return the storage file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(STRATEGY))
    document = {"conversion": {"config_template": "strategy.yaml"}, **sections}
    path = folder / "storage.yaml"
    path.write_bytes(msgspec.yaml.encode(document))
    return path
