"""``python -m services.uploader``: the uploader of one spool as a process; ``episodeflow uploader`` takes the same flags."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from services.uploader.service import Uploader
from shared import lifecycle, logs
from shared.bus import Bus
from shared.config import StorageConfig, StrategyConfig, load_storage, load_strategy
from shared.consumer import Consumer, Counts, Work
from shared.errors import BadConfig
from shared.events import EpisodeConverted
from shared.ledger import Ledger
from shared.places import resolve
from shared.provision import uploader_durable
from shared.store import StorePool

_log = logs.logger("uploader")

_EPISODES_AT_ONCE = 2


def main(arguments: list[str] | None = None) -> int:
    """Upload until stopped and return the exit code."""
    parser = argparse.ArgumentParser(prog="uploader", description="Bring converted episodes from the spool to the store.")
    parser.add_argument("--storage", type=Path, default=Path("config/storage.yaml"), help="storage file")
    flags = parser.parse_args(arguments)
    try:
        storage, notices = load_storage(flags.storage, os.environ)
        strategy = load_strategy(Path(storage.conversion.config_template), os.environ)
        logging = logs.Logging.configure(storage.logging)
    except BadConfig as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for notice in (*notices, *logging.notices):
        _log.warning("config.notice", notice=notice)

    async def serve(stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
        return await upload(storage, strategy, stopping=stopping, stack=stack)

    try:
        return lifecycle.run(serve, service="uploader")
    finally:
        logging.close()


async def upload(storage: StorageConfig, strategy: StrategyConfig, *, stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
    """Open what the uploader needs on the stack, and serve its spool.

    Raises:
        BadConfig: no spool folder is configured.
    """
    conversion = storage.conversion
    if conversion.spool.path is None:
        raise BadConfig("storage", "conversion.spool.path", "is not set: name the folder that converters and this uploader share")
    here = Path.cwd()
    places = resolve(storage, strategy, here=str(here), home=str(Path.home()))
    stores = await stack.enter_async_context(StorePool(storage.bos))
    ledger = await stack.enter_async_context(Ledger(storage.redis))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name=f"uploader-{conversion.spool.name}"))
    uploader = Uploader(
        bus=bus,
        ledger=ledger,
        stores=stores,
        places=places,
        spool=here / conversion.spool.path,
        parallel_uploads=storage.bos.upload.parallel_uploads,
    )
    work = Work(
        stage="uploader",
        durables=(uploader_durable(conversion.spool.name).name,),
        event_type=EpisodeConverted,
        handler=uploader.handle,
        slots=_EPISODES_AT_ONCE,
        max_attempts=conversion.max_attempts,
        grace_s=conversion.grace_s,
        on_failed=ledger.note_failure,
    )
    return await Consumer(bus, work).run(stopping)


if __name__ == "__main__":
    sys.exit(main())
