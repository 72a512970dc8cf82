"""``python -m services.converter``: a converter as a process; ``episodeflow converter`` takes the same flags."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.converter import worker
from services.converter.limits import Limits
from services.converter.service import Converter, Recipe, Spool
from services.converter.workspace import Workspace
from shared import entry
from shared.bus import Bus
from shared.config import StorageConfig, source_configs, spool_folder, temp_folder
from shared.consumer import Counts, Work
from shared.errors import BadConfig
from shared.events import EpisodeReady
from shared.ledger import Ledger
from shared.presence import run_shown
from shared.progress import ProgressReporter
from shared.provision import ANY_DURABLE, converter_durable
from shared.store import StorePool


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line adds to the storage file: which sources (none: all) and how many conversions at once."""

    sources: tuple[str, ...] = ()
    max_workers: int | None = None


def main(arguments: list[str] | None = None) -> int:
    """Convert until stopped and return the exit code."""
    parser = entry.config_parser("converter", "Turn raw episodes into LeRobot datasets.")
    parser.add_argument("-s", "--source", action="append", default=[], help="serve only this source; may be repeated")
    parser.add_argument("--max-workers", type=int, help="conversions at once (default: redis.max_workers)")
    flags = parser.parse_args(arguments)
    return serve(flags.config, Options(sources=tuple(flags.source), max_workers=flags.max_workers))


def serve(config_path: Path, options: Options) -> int:
    """Convert with the configuration at ``config_path`` and return the exit code."""
    worker.preload()  # its libraries load beside ours

    async def story(loaded: entry.Loaded, stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
        return await convert(loaded, options, stopping=stopping, stack=stack)

    return entry.serve(config_path, story, service="converter")


async def convert(loaded: entry.Loaded, options: Options, *, stopping: asyncio.Event, stack: AsyncExitStack) -> Counts:
    """Open what a converter needs on the stack, and serve its sources.

    Raises:
        BadConfig: an option names an unknown source.
        Refused: the bus has no consumer for a source.
    """
    storage, conversion = loaded.storage, loaded.storage.conversion
    here, system_temp = Path.cwd(), Path(tempfile.gettempdir())
    durables = _durables(storage, options.sources)
    spool = Spool(name=conversion.spool.name, folder=here / spool_folder(storage, system_temp=system_temp))
    ledger = await stack.enter_async_context(Ledger(storage.redis))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name="converter"))
    converter = Converter(
        ledger=ledger,
        stores=await stack.enter_async_context(StorePool(storage.bos)),
        places=loaded.places(),
        recipe=Recipe(document=loaded.template, place=str(loaded.template_path), strategy=conversion.strategy),
        spool=spool,
        downloads=stack.enter_context(Workspace(here / temp_folder(storage, system_temp=system_temp) / "work")),
        parts=stack.enter_context(Workspace(spool.folder / ".work")),
        batch_size=storage.bos.download.batch_size,
        limits=Limits(max_memory_mb=conversion.max_memory_mb, max_seconds=conversion.max_seconds),
        progress=ProgressReporter(bus, worker="converter"),
    )
    work = Work(
        stage="converter",
        durables=durables,
        event_type=EpisodeReady,
        handler=converter.handle,
        slots=options.max_workers or storage.redis.max_workers,
        max_attempts=conversion.max_attempts,
        excuses=ledger,
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
