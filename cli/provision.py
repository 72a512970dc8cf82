"""`episodeflow provision`: the stream and its consumers, made or updated."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.entry import DEFAULT_CONFIG

if TYPE_CHECKING:
    from shared.config import StorageConfig


@click.command("provision")
@click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="Storage file (YAML)."
)
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
    asyncio.run(_provisioned(storage))


async def _provisioned(storage: StorageConfig) -> None:
    from shared.bus import Bus  # noqa: PLC0415
    from shared.provision import provision, provision_plan  # noqa: PLC0415

    async with await Bus.connect(storage.nats, name="provision") as bus:
        for change in await provision(bus, provision_plan(storage)):
            click.echo(f"{change.done:<9} {change.kind} {change.name}")
