"""`episodeflow converter` (alias `worker`): the options of the converter service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli import operation


@click.command("converter")
@operation.config_option
@click.option("-s", "--source", "sources", multiple=True, metavar="SOURCE", help="Serve only this source; may be repeated. [default: all]")
@click.option("--max-workers", type=click.IntRange(min=1), help="Conversions at once. [default: redis.max_workers]")
def command(config_path: Path, sources: tuple[str, ...], max_workers: int | None) -> None:
    """Turn raw episodes into LeRobot datasets: consume episode.ready, publish episode.converted.

    Start as many as you like, on as many hosts: they share the episodes. `worker` is another name of this command.

    \b
    Example: episodeflow converter -c config/storage.yaml -s lab_1 --max-workers 2
    """
    from services.converter.__main__ import Options, serve  # noqa: PLC0415 - the help needs no service

    sys.exit(serve(config_path, Options(sources=sources, max_workers=max_workers)))
