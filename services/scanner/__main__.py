"""``python -m services.scanner``: the scanner as a process; ``episodeflow scanner`` takes the same flags."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from services.scanner.service import Scanner, Summary
from shared import lifecycle, logs
from shared.bus import Bus
from shared.config import StorageConfig, StrategyConfig, load_storage, load_strategy
from shared.errors import BadConfig
from shared.ledger import Ledger
from shared.places import resolve
from shared.store import StorePool

_log = logs.logger("scanner")


def main(arguments: list[str] | None = None) -> int:
    """Scan as the flags say and return the exit code."""
    parser = argparse.ArgumentParser(prog="scanner", description="Publish episode.ready for raw episodes that nobody announced.")
    parser.add_argument("--storage", type=Path, default=Path("config/storage.yaml"), help="storage file")
    parser.add_argument("--interval", type=float, help="seconds between two scans (default: bos.scanner.interval)")
    parser.add_argument("--once", action="store_true", help="scan once; episodes that are only too young are waited for")
    parser.add_argument("--full-scan", action="store_true", help="begin at the first key, not where the last scan got to")
    flags = parser.parse_args(arguments)
    try:
        storage, notices = load_storage(flags.storage, os.environ)
        strategy = load_strategy(Path(storage.conversion.config_template), os.environ)
        if flags.interval is not None:
            storage = with_interval(storage, flags.interval)
        logging = logs.Logging.configure(storage.logging)
    except BadConfig as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for notice in (*notices, *logging.notices):
        _log.warning("config.notice", notice=notice)

    async def serve(stopping: asyncio.Event, stack: AsyncExitStack) -> Summary:
        return await scan(storage, strategy, stopping=stopping, stack=stack, is_once=flags.once, is_full=flags.full_scan)

    try:
        return lifecycle.run(serve, service="scanner")
    finally:
        logging.close()


def with_interval(storage: StorageConfig, interval_s: float) -> StorageConfig:
    """Return the configuration with another time between two scans.

    Raises:
        BadConfig: not above zero.
    """
    if not interval_s > 0:
        raise BadConfig("--interval", "", f"expected seconds above 0 (found {interval_s:g})")
    scanner = msgspec.structs.replace(storage.bos.scanner, interval=interval_s)
    return msgspec.structs.replace(storage, bos=msgspec.structs.replace(storage.bos, scanner=scanner))


async def scan(
    storage: StorageConfig, strategy: StrategyConfig, *, stopping: asyncio.Event, stack: AsyncExitStack, is_once: bool, is_full: bool
) -> Summary:
    """Open what the scanner needs on the stack, and scan."""
    places = resolve(storage, strategy, here=str(Path.cwd()), home=str(Path.home()))
    stores = await stack.enter_async_context(StorePool(storage.bos))
    ledger = await stack.enter_async_context(Ledger(storage.redis, scan_key=storage.bos.scanner.incremental_key))
    bus = await stack.enter_async_context(await Bus.connect(storage.nats, name="scanner"))
    scanner = Scanner(bus=bus, ledger=ledger, stores=stores, places=places, config=storage.bos.scanner, strategy=strategy)
    return await (scanner.once if is_once else scanner.run)(stopping, is_full=is_full)


if __name__ == "__main__":
    sys.exit(main())
