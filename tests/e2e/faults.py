"""A lab for fault tests: real servers and services, a recorder, a replayer, and what must be true at the end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiobotocore.session import get_session

from cli.s3_server import S3Server
from cli.servers import NatsServer, ValkeyServer
from shared import events
from shared.bus import Bus
from shared.config import load_storage
from shared.errors import Retryable
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady
from shared.ledger import Ledger
from shared.provision import provision, provision_plan
from shared.store import open_store
from tests.e2e.disturbance import FaultyProxy
from tests.e2e.processes import ServiceProcess
from tests.fixtures_store import create_bucket
from tests.services.converter.episodes import STRATEGY, write_episode

SOURCE = "lab"
ACK_WAIT_S = 3.0
SMALL_SPOOL_MB = 24
_PAUSE_S = 0.1
_PARALLEL_PUTS = 16


class Lab:
    """Everything of one run.

    Attributes:
        nats, valkey, s3, proxy: the servers.
        services: by name.
        bus: an administrator's.
    """

    def __init__(self, folder: Path, *, s3: S3Server, bucket: str) -> None:
        self.folder, self.s3, self.bucket = folder, s3, bucket
        self.nats = NatsServer(folder / "nats")
        self.valkey = ValkeyServer(folder / "valkey")
        self.config = folder / "storage.yaml"
        self.spool = folder / "spool"
        self.services: dict[str, ServiceProcess] = {}
        self.proxy: FaultyProxy
        self.bus: Bus

    def write_config(self, *, workers: int, store: str | None = None, **conversion: Any) -> None:
        """Write the storage file of the services: the store lies behind the proxy, unless it is another."""
        user = self.nats.users[0]
        document: dict[str, Any] = {
            "nats": {"servers": [self.nats.url], "user": user.name, "password": user.password.reveal(), "ack_wait_s": ACK_WAIT_S},
            "redis": {"host": "127.0.0.1", "port": self.valkey.port, "password": self.valkey.password.reveal(), "max_workers": workers},
            "bos": {
                "endpoint": f"http://127.0.0.1:{self.proxy.port}",
                "bucket": self.bucket,
                "scanner": {"interval": 1.0, "settle_s": 1.0},
                "download": {"temp_dir": str(self.folder / "temp"), "batch_size": 16},
            },
            "sources": [SOURCE],
            "conversion": {
                "config_template": str(self.folder / "strategy.yaml"),
                "grace_s": 20.0,
                "spool": {"path": str(self.spool)},
                **conversion,
            },
        }
        if store:
            document["store"] = store
        self.config.write_bytes(msgspec.yaml.encode(document))
        (self.folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(STRATEGY))

    def environ(self) -> dict[str, str]:
        return {**os.environ, "BOS_ACCESS_KEY": self.s3.access_key, "BOS_SECRET_KEY": self.s3.secret_key}

    def service(self, name: str, module: str) -> ServiceProcess:
        self.services[name] = ServiceProcess(name, module, config=self.config, environ=self.environ())
        return self.services[name]

    @property
    def converters(self) -> list[ServiceProcess]:
        return [service for name, service in self.services.items() if name.startswith("converter")]

    # --- what is looked at --------------------------------------------------------------------------------

    async def datasets(self) -> dict[str, str]:
        """Return the SHA-256 of every file of every dataset, by key."""
        return await _hashed(self.s3, self.bucket, "converted_datas/")

    async def num_complete(self) -> int:
        store = await open_store(f"s3://{self.bucket}", self.s3.bos_config(self.bucket))
        try:
            return len([found async for found in store.list("converted_datas/") if found.key.endswith("/meta/info.json")])
        finally:
            await store.close()

    async def num_unsettled(self) -> int:
        """Return how many messages wait, or are in somebody's hands."""
        return sum(info.num_pending + info.num_ack_pending for info in await self.bus.consumer_infos())

    async def failures(self) -> list[EpisodeFailed]:
        found: list[EpisodeFailed] = []
        seq = 1
        while stored := await self.bus.stored(seq, next_on="episode.failed.>"):
            found.append(events.decode(stored.body, EpisodeFailed))
            seq = stored.seq + 1
        return found

    async def num_on(self, stage: str) -> int:
        info = await self.bus.stream_info(subjects=f"episode.{stage}.>")
        assert info is not None
        return sum((info.state.subjects or {}).values())

    async def num_completed(self) -> int:
        async with Ledger(self.valkey.config()) as ledger:
            return (await ledger.stats(SOURCE)).completed

    async def multipart_uploads(self) -> list[str]:
        async with _client(self.s3) as client:
            answer = await client.list_multipart_uploads(Bucket=self.bucket)
        return [upload["Key"] for upload in answer.get("Uploads", ())]

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of all services with one event name."""
        paths = [service.log_path for service in self.services.values() if service.log_path.exists()]
        lines = [line for path in paths for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        return [json.loads(line) for line in lines if f'"{event}"' in line and line.startswith("{") and line.endswith("}")]

    def leftovers(self) -> list[str]:
        """Return what lies in spool and workspaces, and is no empty folder of them."""
        roots = (self.spool, self.folder / "temp")
        found = [path for root in roots for path in root.rglob("*") if path.is_file() or path.name.startswith(".part-")]
        return sorted(str(path.relative_to(self.folder)) for path in found)


@asynccontextmanager
async def opened_lab(
    folder: Path, s3: S3Server, *, seed: int, is_spool_small: bool = False, workers: int = 2, **conversion: Any
) -> AsyncIterator[Lab]:
    """Give a lab whose servers run, stream and bucket made, services named and not started; everything ends with it.

    With ``is_spool_small`` the spool is a file system of its own, where this machine lets us mount one.
    """
    await asyncio.to_thread(folder.mkdir, parents=True)
    bucket = f"faults-{folder.name}"
    await create_bucket(s3, bucket)
    lab = Lab(folder, s3=s3, bucket=bucket)
    async with AsyncExitStack() as stack:
        if is_spool_small:
            stack.enter_context(mounted(lab.spool))
        await stack.enter_async_context(lab.nats)
        await stack.enter_async_context(lab.valkey)
        lab.proxy = await stack.enter_async_context(FaultyProxy(int(s3.endpoint.rpartition(":")[2]), seed=seed))
        lab.write_config(workers=workers, **conversion)
        storage, _ = load_storage(lab.config, {})
        lab.bus = await stack.enter_async_context(await Bus.connect(lab.nats.config(), name="test"))
        await provision(lab.bus, provision_plan(storage))
        for name, module in (("converter-1", "converter"), ("converter-2", "converter"), ("uploader", "uploader"), ("scanner", "scanner")):
            stack.push_async_callback(_ended, lab.service(name, module))
        yield lab


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Mount a file system in memory on a new folder inside the block; without the right to, leave the folder as it is."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_SPOOL_MB}m", "tmpfs", str(folder)]
    is_mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def _ended(service: ServiceProcess) -> None:
    if service.is_running:
        service.resume()
        await service.kill(with_family=True)


def write_raw(folder: Path, count: int) -> Path:
    """Write ``count`` small episodes of a few lengths."""
    for index in range(count):
        write_episode(folder, f"episode_{index:04d}", seconds=0.4 + 0.08 * (index % 3))
    return folder


async def send_raw(raw: Path, lab: Lab) -> None:
    """Bring the raw episodes to the lab's bucket, past the proxy."""
    store = await open_store(f"s3://{lab.bucket}", lab.s3.bos_config(lab.bucket))
    slots = asyncio.Semaphore(_PARALLEL_PUTS)

    async def put(path: Path) -> None:
        async with slots:
            await store.put(path, f"raw_datas/{path.relative_to(raw).as_posix()}")

    try:
        async with asyncio.TaskGroup() as group:
            for path in await asyncio.to_thread(lambda: sorted(raw.rglob("*"))):
                if path.is_file():
                    group.create_task(put(path))
    finally:
        await store.close()


async def announce(lab: Lab, names: list[str], *, pause_s: float) -> None:
    """Publish episodes one after the other, as a recorder would."""
    for name in names:
        event = EpisodeReady(episode_id=name, source=SOURCE, timestamp=time.time())
        await lab.bus.publish(event, message_id=f"recorded:{name}")
        await asyncio.sleep(pause_s)


class Replayer:
    """Publishes every ready and converted event once more, under another message id."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._next_seq = 1
        self._replays: set[int] = set()
        self.count = 0

    async def run(self) -> None:
        while True:
            if not await self.step():
                await asyncio.sleep(_PAUSE_S)

    async def step(self) -> bool:
        """Look at the next message of the stream; False if there is none yet."""
        stored = await _patiently(lambda: self._lab.bus.stored(self._next_seq, next_on="episode.>"))
        if stored is None:
            return False
        stage = stored.subject.split(".")[1]
        if stored.seq not in self._replays and stage in {"ready", "converted"}:
            event = events.decode(stored.body, EpisodeReady if stage == "ready" else EpisodeConverted)
            receipt = await self._lab.bus.publish(event, message_id=f"replay:{stored.seq}")
            self._replays.add(receipt.seq)
            self.count += 1
        self._next_seq = stored.seq + 1
        return True


async def until(condition: Callable[[], Any], *, deadline_s: float, what: Callable[[], str] = lambda: "") -> None:
    """Wait until an asynchronous condition holds; while servers are away it does not."""
    deadline = time.monotonic() + deadline_s
    while not await _patiently(condition):
        assert time.monotonic() < deadline, f"not within {deadline_s:g} s {what()}"
        await asyncio.sleep(_PAUSE_S)


async def _patiently(asking: Callable[[], Any]) -> Any:
    while True:
        try:
            return await asking()
        except Retryable:
            await asyncio.sleep(_PAUSE_S)


async def _hashed(s3: S3Server, bucket: str, prefix: str) -> dict[str, str]:
    store = await open_store(f"s3://{bucket}", s3.bos_config(bucket))
    slots = asyncio.Semaphore(_PARALLEL_PUTS)

    async def digest(key: str) -> tuple[str, str]:
        async with slots:
            return key, hashlib.sha256(await store.get_bytes(key)).hexdigest()

    try:
        return dict(await asyncio.gather(*[digest(found.key) async for found in store.list(prefix)]))
    finally:
        await store.close()


def _client(s3: S3Server) -> Any:
    return get_session().create_client(
        "s3", endpoint_url=s3.endpoint, region_name="us-east-1", aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key
    )
