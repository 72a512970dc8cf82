"""Real stores for tests: one SeaweedFS per session, one bucket per test, folders in temporary places."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiobotocore.session import get_session

from cli.s3_server import S3Server
from shared.config import BosConfig
from shared.store import Store, open_store


async def create_bucket(server: S3Server, name: str) -> None:
    """Make a bucket on a running server."""
    client = get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    async with client as opened:
        await opened.create_bucket(Bucket=name)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A SeaweedFS for the whole session; tests only ever see buckets of their own."""
    server = S3Server(tmp_path_factory.mktemp("weed"))
    # The child outlives the loop that started it: each of these calls has a loop of its own.
    with asyncio.Runner() as runner:
        runner.run(server.start())
        yield server
        runner.run(server.stop())


@pytest.fixture
async def private_s3_server(tmp_path: Path) -> AsyncIterator[S3Server]:
    """A SeaweedFS that the test may kill."""
    async with S3Server(tmp_path / "weed") as server:
        yield server


@pytest.fixture
async def bos(s3_server: S3Server) -> BosConfig:
    """The configuration of a fresh bucket on the session's server."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    await create_bucket(s3_server, bucket)
    return s3_server.bos_config(bucket)


@pytest.fixture
async def s3_store(bos: BosConfig) -> AsyncIterator[Store]:
    """A store in a fresh bucket."""
    store = await open_store(f"s3://{bos.bucket}", bos)
    yield store
    await store.close()


@pytest.fixture
async def file_store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store in a fresh folder."""
    root = tmp_path / "store"
    root.mkdir()
    store = await open_store(root.as_uri(), BosConfig())
    yield store
    await store.close()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """Both kinds of store, one after the other."""
    chosen: Store = request.getfixturevalue(f"{request.param}_store")
    return chosen
