"""``python -m services.uploader``: the uploader of one spool as a process; ``episodeflow uploader`` takes the same flags."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.uploader.growing import GrowingDatasets
from services.uploader.service import Uploader
from shared import entry, settings
from shared.bus import Bus
from shared.config import SpoolConfig, StorageConfig, spool_folder
from shared.consumer import Counts, Work
from shared.events import EpisodeConverted
from shared.leases import Leases
from shared.ledger import Ledger
from shared.presence import run_shown
from shared.progress import ProgressReporter
from shared.provision import uploader_durable
from shared.store import StorePool

_EPISODES_AT_ONCE = 2


def main(arguments: list[str] | None = None) -> int:
    """Upload until stopped and return the exit code."""
    parser = entry.config_parser("uploader", "Bring converted episodes from the spool to the store.")
    parser.add_argument("--spool", help="name of the spool to serve (default: conversion.spool.name)")
    flags = parser.parse_args(arguments)
    return serve(flags.config, flags.spool)


def serve(config_path: Path, spool: str | None) -> int:
    """Upload with the configuration at ``config_path`` and return the exit code; ``spool`` None means the configured one."""

    async def story(loaded: entry.Loaded, stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
        return await upload(loaded, spool, stopping=stopping, stack=stack)

    return entry.serve(config_path, story, service="uploader")


async def upload(loaded: entry.Loaded, spool: str | None, *, stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
    """Open what the uploader needs on the stack, and serve its spool.

    Raises:
        BadConfig: the configuration or the spool's name is wrong.
        Refused: the bus has no consumer for the spool.
    """
    storage = loaded.storage if spool is None else with_spool(loaded.storage, spool)
    conversion = storage.conversion
    places = loaded.places()
    stores = await stack.enter_async_context(StorePool(storage.bos))
    ledger = await stack.enter_async_context(Ledger(storage.redis))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name=f"uploader-{conversion.spool.name}"))
    spool_root = Path.cwd() / spool_folder(storage, system_temp=Path(tempfile.gettempdir()))
    parallel_uploads = storage.bos.upload.parallel_uploads
    growing = await stack.enter_async_context(
        GrowingDatasets(stores=stores, places=places, leases=Leases(bus), folder=spool_root, parallel_uploads=parallel_uploads)
    )
    durable = uploader_durable(conversion.spool.name).name
    uploader = Uploader(
        bus=bus,
        ledger=ledger,
        stores=stores,
        places=places,
        spool=spool_root,
        parallel_uploads=parallel_uploads,
        growing=growing,
        durable=durable,
        progress=ProgressReporter(bus, worker="uploader"),
    )
    tidying = asyncio.create_task(uploader.keep_tidy())
    stack.push_async_callback(_cancelled, tidying)
    work = Work(
        stage="uploader",
        durables=(durable,),
        event_type=EpisodeConverted,
        handler=uploader.handle,
        slots=_EPISODES_AT_ONCE,
        max_attempts=conversion.max_attempts,
        excuses=ledger,
        grace_s=conversion.grace_s,
        on_failed=ledger.note_failure,
    )
    return await run_shown(bus, work, storage, spool=conversion.spool.name, stopping=stopping, stack=stack)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


def with_spool(storage: StorageConfig, name: str) -> StorageConfig:
    """Return the configuration with another spool's name.

    Raises:
        BadConfig: it cannot be a name.
    """
    spool = settings.decode({**msgspec.to_builtins(storage.conversion.spool), "name": name}, SpoolConfig, place="--spool")
    return msgspec.structs.replace(storage, conversion=msgspec.structs.replace(storage.conversion, spool=spool))


if __name__ == "__main__":
    sys.exit(main())
