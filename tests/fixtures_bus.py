"""Real servers for tests: one nats-server and one Valkey per session, names of its own for every test.

Nothing is flushed or purged: a test reads only what it wrote under its own names.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cli.servers import NatsServer, ValkeyServer
from shared.bus import Bus
from shared.config import ConversionConfig, NatsConfig, RedisConfig, SpoolConfig, StorageConfig
from shared.provision import provision, provision_plan

ServerFactory = Callable[..., Awaitable[NatsServer]]
BusFactory = Callable[..., Awaitable[Bus]]


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server for the whole session; a test that stops or kills one makes its own with ``private_nats``."""
    server = asyncio.run(NatsServer(tmp_path_factory.mktemp("nats")).start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A Valkey for the whole session."""
    server = asyncio.run(ValkeyServer(tmp_path_factory.mktemp("valkey")).start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def source() -> str:
    """A source name that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def redis_config(valkey_server: ValkeyServer) -> RedisConfig:
    """The ledger of the session; keys are kept apart by ``source``."""
    return valkey_server.config()


@pytest.fixture
def storage_config(nats_server: NatsServer, redis_config: RedisConfig, source: str) -> StorageConfig:
    """A configuration with one source and one spool, both named ``source``."""
    return msgspec.structs.replace(storage_for(nats_server, source), redis=redis_config)


@pytest.fixture
async def bus(storage_config: StorageConfig) -> AsyncIterator[Bus]:
    """A bus with the stream and the durables of ``storage_config``."""
    async with await Bus.connect(storage_config.nats, name="test") as connected:
        await provision(connected, provision_plan(storage_config))
        yield connected


@pytest.fixture
async def private_nats(tmp_path: Path) -> AsyncIterator[ServerFactory]:
    """A factory of nats-servers that a test may kill."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, max_payload_bytes: int | None = None) -> NatsServer:
            folder = tmp_path / f"nats-{uuid.uuid4().hex[:8]}"
            return await stack.enter_async_context(NatsServer(folder, max_payload_bytes=max_payload_bytes))

        yield start


@pytest.fixture
async def connect() -> AsyncIterator[BusFactory]:
    """A factory of buses, closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def connected(config: NatsConfig, *, name: str = "test") -> Bus:
            return await stack.enter_async_context(await Bus.connect(config, name=name))

        yield connected


def storage_for(server: NatsServer, *sources: str, ack_wait_s: float = 60.0) -> StorageConfig:
    """Return a configuration for a server with the given sources; the spool is named like the first."""
    config = server.config()
    nats = NatsConfig(servers=config.servers, user=config.user, password=config.password, ack_wait_s=ack_wait_s)
    return StorageConfig(nats=nats, sources=sources, conversion=ConversionConfig(spool=SpoolConfig(name=sources[0])))
