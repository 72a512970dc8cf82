"""``python -m services.scanner``: the scanner as a process; ``episodeflow scanner`` takes the same flags."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.scanner.service import Scanner, Summary
from shared import entry
from shared.bus import Bus
from shared.config import StorageConfig
from shared.errors import BadConfig
from shared.ledger import Ledger
from shared.presence import Presence, about, service_metrics
from shared.store import StorePool


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        interval_s: seconds between two scans; None: the storage file's.
        is_once: scan once and end.
        is_full: begin at the first key, not where the last scan got to.
    """

    interval_s: float | None = None
    is_once: bool = False
    is_full: bool = False


def main(arguments: list[str] | None = None) -> int:
    """Scan as the flags say and return the exit code."""
    parser = entry.config_parser("scanner", "Publish episode.ready for raw episodes that nobody announced.")
    parser.add_argument("--interval", type=float, help="seconds between two scans (default: bos.scanner.interval)")
    parser.add_argument("--once", action="store_true", help="scan once; episodes that are only too young are waited for")
    parser.add_argument("--full-scan", action="store_true", help="begin at the first key, not where the last scan got to")
    flags = parser.parse_args(arguments)
    return serve(flags.config, Options(interval_s=flags.interval, is_once=flags.once, is_full=flags.full_scan))


def serve(config_path: Path, options: Options) -> int:
    """Scan with the configuration at ``config_path`` and return the exit code."""

    async def story(loaded: entry.Loaded, stopping: asyncio.Event, stack: AsyncExitStack) -> Summary:
        return await scan(loaded, options, stopping=stopping, stack=stack)

    return entry.serve(config_path, story, service="scanner")


async def scan(loaded: entry.Loaded, options: Options, *, stopping: asyncio.Event, stack: AsyncExitStack) -> Summary:
    """Open what the scanner needs on the stack, and scan.

    Raises:
        BadConfig: the configuration or an option is wrong.
        Rejected: the store or the bus refuses us.
    """
    storage = loaded.storage if options.interval_s is None else with_interval(loaded.storage, options.interval_s)
    places = loaded.places()
    stores = await stack.enter_async_context(StorePool(storage.bos))
    ledger = await stack.enter_async_context(Ledger(storage.redis, scan_key=storage.bos.scanner.incremental_key))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name="scanner"))
    metrics = service_metrics("scanner", storage)
    await stack.enter_async_context(Presence(bus, storage.metrics, about("scanner", storage), metrics=metrics))
    scanner = Scanner(
        bus=bus, ledger=ledger, stores=stores, places=places, config=storage.bos.scanner, strategy=loaded.strategy, metrics=metrics
    )
    if not options.is_once:
        return await scanner.run(stopping, is_full=options.is_full)
    summary = await scanner.once(stopping, is_full=options.is_full)
    sys.stdout.write(summary_text(summary))
    return summary


def summary_text(summary: Summary) -> str:
    """Return what one scan did, for a person: a line in all, and one for each episode that was published or waits."""
    lines = [f"{summary.found} episodes looked at, {len(summary.published)} published, {len(summary.waiting)} waiting"]
    lines += [f"published {name}" for name in summary.published]
    lines += [f"waiting   {waiting.source}/{waiting.episode_id}: {waiting.why}" for waiting in summary.waiting]
    return "\n".join(lines) + "\n"


def with_interval(storage: StorageConfig, interval_s: float) -> StorageConfig:
    """Return the configuration with another time between two scans.

    Raises:
        BadConfig: not above zero.
    """
    if not interval_s > 0:
        raise BadConfig("--interval", "", f"expected seconds above 0 (found {interval_s:g})")
    scanner = msgspec.structs.replace(storage.bos.scanner, interval=interval_s)
    return msgspec.structs.replace(storage, bos=msgspec.structs.replace(storage.bos, scanner=scanner))


if __name__ == "__main__":
    sys.exit(main())
