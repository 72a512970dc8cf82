"""`episodeflow up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.embedding import Wish
    from cli.stack import Stack
    from cli.state import StateFolder

DEFAULT_STATE = Path("episodeflow-state")


@click.command("up")
@click.option(
    "--state", "state_path", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True, help="Folder that keeps everything."
)
@click.option("--converters", type=click.IntRange(min=1), default=1, show_default=True, help="Converter processes.")
@click.option("--store", metavar="URI", help="file:///folder or s3://bucket. [default: the storage file's, else DIR/store]")
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), help="Storage file; its nats and redis are replaced.")
def command(state_path: Path, converters: int, store: str | None, config_path: Path | None) -> None:
    """Run the whole system on this machine, without containers: NATS, Valkey, scanner, converters, uploader.

    When everything is ready, the state folder has endpoints.json with all addresses, credentials and process ids. Ctrl-C
    stops cleanly; the next `up` with the same folder continues where this one was.

    \b
    Example: episodeflow up --state ./state --converters 2
    """
    from cli.embedding import Wish  # noqa: PLC0415 - the help needs no server
    from cli.state import StateFolder  # noqa: PLC0415
    from shared import logs  # noqa: PLC0415
    from shared.config import LoggingConfig  # noqa: PLC0415

    logging = logs.Logging.configure(LoggingConfig())
    try:
        asyncio.run(_run(StateFolder(state_path), Wish(config=config_path, store=store, converters=converters)))
    finally:
        logging.close()


async def _run(state: StateFolder, wish: Wish) -> None:
    from cli.stack import Stack  # noqa: PLC0415
    from shared.lifecycle import stopped_by_signals  # noqa: PLC0415

    started, stopping = asyncio.Event(), asyncio.Event()
    with stopped_by_signals(stopping):
        running = asyncio.create_task(_serve(Stack(state, wish, os.environ), started, stopping))
        interrupted = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if stopping.is_set() and not started.is_set():
            running.cancel()  # once it has started, it stops by the event
        with suppress(asyncio.CancelledError):
            await running


async def _serve(stack: Stack, started: asyncio.Event, stopping: asyncio.Event) -> None:
    async with stack:
        started.set()
        for notice in stack.notices:
            click.echo(f"notice: {notice}", err=True)
        show(stack)
        await stopping.wait()
        click.echo("stopping", err=True)
    click.echo("stopped", err=True)


def show(stack: Stack) -> None:
    """Print where everything is, and how to join."""
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    endpoints = stack.endpoints()
    table = Table("what", "where", "process", title="episodeflow is up", title_justify="left")
    pids = endpoints.pids
    user = endpoints.nats
    table.add_row("NATS", f"{user.url} user {user.user}", str(pids.get("nats")))
    table.add_row("Redis (Valkey)", f"{endpoints.redis.host}:{endpoints.redis.port}", str(pids.get("valkey")))
    table.add_row("store", endpoints.store, "")
    for source, uri in endpoints.raw.items():
        table.add_row(f"raw episodes of {source}", uri, "")
    table.add_row("finished datasets", endpoints.converted, "")
    for name in endpoints.services:
        if name not in {"nats", "valkey"}:
            table.add_row(name, endpoints.services[name].log, str(pids.get(name)))
    table.add_row("credentials", endpoints.credentials, "")
    table.add_row("all of this", str(stack.state.endpoints_path), str(pids["up"]))
    console = Console()
    source = next(iter(endpoints.raw), "local")
    console.print(table, soft_wrap=True)
    console.print(f"join:  set -a; . {endpoints.credentials}; set +a", soft_wrap=True, markup=False, highlight=False)
    console.print("       then, for example, nats stream info EPISODES", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"or:    episodeflow publish -c {endpoints.config} -e episode_0001 -s {source}", soft_wrap=True, markup=False, highlight=False
    )
    console.print("Ctrl-C stops it.", markup=False)
