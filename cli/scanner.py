"""`episodeflow scanner`: the options of the scanner service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli import operation


@click.command("scanner")
@operation.config_option
@click.option("--interval", "interval_s", type=float, metavar="SECONDS", help="Time between two scans. [default: bos.scanner.interval]")
@click.option("--once", "is_once", is_flag=True, help="Scan once and end; episodes that are only too young are waited for.")
@click.option("--full-scan", "is_full", is_flag=True, help="Begin at the first key, not where the last scan got to.")
def command(config_path: Path, interval_s: float | None, is_once: bool, is_full: bool) -> None:
    """Publish episode.ready for raw episodes in the store that nobody announced.

    An episode is ready when all its arms and cameras are there, it has enough files and stopped growing. Each is announced
    once, however often it is scanned.

    \b
    Example: episodeflow scanner -c config/storage.yaml --interval 30
    """
    from services.scanner.__main__ import Options, serve  # noqa: PLC0415 - the help needs no service

    sys.exit(serve(config_path, Options(interval_s=interval_s, is_once=is_once, is_full=is_full)))
