"""``python -m services.converter``: a converter as a process; ``episodeflow converter`` takes the same flags."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.converter import worker
from services.converter.service import Converter, Recipe, Spool
from services.converter.workspace import Workspace
from shared import lifecycle, logs, settings
from shared.bus import Bus
from shared.config import StorageConfig, decode_strategy, load_storage, source_configs, spool_folder, temp_folder
from shared.consumer import Counts, Work
from shared.errors import BadConfig
from shared.events import EpisodeReady
from shared.ledger import Ledger
from shared.places import resolve
from shared.presence import run_shown
from shared.progress import ProgressReporter
from shared.provision import ANY_DURABLE, converter_durable
from shared.store import StorePool

_log = logs.logger("converter")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line adds to the storage file: which sources (none: all) and how many conversions at once."""

    sources: tuple[str, ...] = ()
    max_workers: int | None = None


def main(arguments: list[str] | None = None) -> int:
    """Convert until stopped and return the exit code."""
    parser = argparse.ArgumentParser(prog="converter", description="Turn raw episodes into LeRobot datasets.")
    parser.add_argument("-c", "--config", type=Path, default=Path("config/storage.yaml"), help="storage file")
    parser.add_argument("-s", "--source", action="append", default=[], help="serve only this source; may be repeated")
    parser.add_argument("--max-workers", type=int, help="conversions at once; default: redis.max_workers")
    flags = parser.parse_args(arguments)
    worker.preload()
    try:
        storage, notices = load_storage(flags.config, os.environ)
        logging = logs.Logging.configure(storage.logging)
    except BadConfig as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for notice in (*notices, *logging.notices):
        _log.warning("config.notice", notice=notice)
    options = Options(sources=tuple(flags.source), max_workers=flags.max_workers)

    async def serve(stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
        template = settings.read_yaml(Path(storage.conversion.config_template), os.environ)
        return await convert(storage, template, options, stopping=stopping, stack=stack)

    try:
        return lifecycle.run(serve, service="converter")
    finally:
        logging.close()


async def convert(
    storage: StorageConfig, template: dict[str, object], options: Options, *, stopping: asyncio.Event, stack: AsyncExitStack
) -> Counts:
    """Open what a converter needs on the stack, and serve its sources.

    Args:
        storage: places, servers, limits.
        template: the strategy file's document.
        options: of the command line.
        stopping: set when no more work is to be taken.
        stack: closes what was opened.

    Raises:
        BadConfig: the strategy file is wrong, or an option names an unknown source.
    """
    conversion, here, system_temp = storage.conversion, Path.cwd(), Path(tempfile.gettempdir())
    strategy = decode_strategy(template, place=conversion.config_template)
    durables = _durables(storage, options.sources)
    spool = Spool(name=conversion.spool.name, folder=here / spool_folder(storage, system_temp=system_temp))
    ledger = await stack.enter_async_context(Ledger(storage.redis))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name="converter"))
    converter = Converter(
        ledger=ledger,
        stores=await stack.enter_async_context(StorePool(storage.bos)),
        places=resolve(storage, strategy, here=str(here), home=str(Path.home())),
        recipe=Recipe(document=template, place=conversion.config_template, strategy=conversion.strategy),
        spool=spool,
        downloads=stack.enter_context(Workspace(here / temp_folder(storage, system_temp=system_temp) / "work")),
        parts=stack.enter_context(Workspace(spool.folder / ".work")),
        batch_size=storage.bos.download.batch_size,
        progress=ProgressReporter(bus, worker="converter"),
    )

    work = Work(
        stage="converter",
        durables=durables,
        event_type=EpisodeReady,
        handler=converter.handle,
        slots=options.max_workers or storage.redis.max_workers,
        max_attempts=conversion.max_attempts,
        grace_s=conversion.grace_s,
        on_failed=ledger.note_failure,
    )
    return await run_shown(bus, work, storage, spool=spool.name, stopping=stopping, stack=stack)


def _durables(storage: StorageConfig, chosen: tuple[str, ...]) -> tuple[str, ...]:
    known = [source.name for source in source_configs(storage)]
    unknown = [source for source in chosen if source not in known]
    if unknown:
        raise BadConfig("--source", "", f"{', '.join(unknown)} is not configured, expected one of {', '.join(known)}")
    if chosen:
        return tuple(converter_durable(source).name for source in chosen)
    return (*(converter_durable(source).name for source in known), ANY_DURABLE)


if __name__ == "__main__":
    sys.exit(main())
