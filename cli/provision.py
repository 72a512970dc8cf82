"""`episodeflow provision`: the stream and its consumers, made or updated."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli import operation

if TYPE_CHECKING:
    from shared.config import StorageConfig


@click.command("provision")
@operation.config_option
def command(config_path: Path) -> None:
    """Create the stream and its consumers on NATS, or update them in place.

    Run it once, and again whenever sources or spool change; what is right already stays untouched.

    \b
    Example: episodeflow provision -c config/storage.yaml
    """
    from shared.config import load_storage  # noqa: PLC0415 - the help needs no configuration
    from shared.entry import environment  # noqa: PLC0415

    storage, notices = load_storage(config_path, environment(config_path, os.environ))
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    with operation.quiet():
        asyncio.run(_provisioned(storage))


async def _provisioned(storage: StorageConfig) -> None:
    from shared.bus import Bus  # noqa: PLC0415
    from shared.provision import provision, provision_plan  # noqa: PLC0415

    async with await Bus.connect(storage.nats, name="provision") as bus:
        for change in await provision(bus, provision_plan(storage)):
            click.echo(f"{change.done:<9} {change.kind} {change.name}")
