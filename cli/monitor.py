"""`episodeflow monitor`: what is pending, in flight, failed and done, live."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.operation import config_option, connected, default_strategy, loaded
from shared.errors import BusUnavailable

if TYPE_CHECKING:
    from rich.live import Live

    from cli.overview import Observer
    from shared.entry import Loaded

_HEARD_S = 1.3
"""Workers tell how far they are once a second: after this long, every one of them has been heard."""


@click.command("monitor")
@click.option("--refresh", type=click.FloatRange(min=0.2), default=2.0, show_default=True, metavar="N", help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Look once and end.")
@click.option("--json", "is_json", is_flag=True, help="With --once: print JSON for scripts.")
@config_option
def command(config_path: Path, refresh: float, once: bool, is_json: bool) -> None:
    """Watch what is pending, in flight, failed and completed per source, who works on what, and how long it will take.

    Also shows subjects that nobody consumes and consumers that no worker serves. Ends with Ctrl-C. The keys of --json are
    those of the table: sources, consumers, episodes, unconsumed, notices.

    \b
    Example: episodeflow monitor --refresh 5
    Example: episodeflow monitor --once --json | jq '.sources[] | {source, pending, failed}'
    """
    if is_json and not once:
        raise click.UsageError("--json goes with --once")
    configuration = loaded(config_path)
    try:
        asyncio.run(_watched(configuration, refresh_s=None if once else refresh, is_json=is_json))
    except KeyboardInterrupt:
        sys.exit(0)


async def _watched(configuration: Loaded, *, refresh_s: float | None, is_json: bool) -> None:
    """Look once (``refresh_s`` None) or again and again."""
    from cli.overview import Observer, listening  # noqa: PLC0415
    from shared.ledger import Ledger  # noqa: PLC0415
    from shared.progress import ProgressBoard  # noqa: PLC0415

    storage, board = configuration.storage, ProgressBoard()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(connected(configuration, name="monitor"))
        ledger = await stack.enter_async_context(Ledger(storage.redis))
        await stack.enter_async_context(listening(bus, board))
        observer = Observer(bus=bus, ledger=ledger, storage=storage, strategy=default_strategy(configuration), board=board)
        if refresh_s is not None:
            await _live(observer, refresh_s)
            return
        await asyncio.sleep(_HEARD_S)
        await _once(observer, is_json=is_json)


async def _once(observer: Observer, *, is_json: bool) -> None:
    import msgspec  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from cli.monitor_view import overview_view  # noqa: PLC0415

    overview = await observer.look()
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(overview), indent=2).decode())
    else:
        Console().print(overview_view(overview))


async def _live(observer: Observer, refresh_s: float) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console()
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            await _shown(observer, live)
            await asyncio.sleep(refresh_s)


async def _shown(observer: Observer, live: Live) -> None:
    """Draw one look; while NATS is away say so and keep trying."""
    from rich.text import Text  # noqa: PLC0415

    from cli.monitor_view import overview_view  # noqa: PLC0415

    try:
        live.update(overview_view(await observer.look()), refresh=True)
    except BusUnavailable as error:
        live.update(Text(f"NATS is away, trying again: {error}"), refresh=True)
