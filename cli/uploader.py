"""`episodeflow uploader`: the options of the uploader service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli import operation


@click.command("uploader")
@operation.config_option
@click.option("--spool", metavar="NAME", help="Spool to serve. [default: conversion.spool.name]")
def command(config_path: Path, spool: str | None) -> None:
    """Bring converted episodes from a spool to the store, and publish episode.uploaded.

    Runs where the spool's folder is, beside the converters that fill it. A slow store never slows a conversion.

    \b
    Example: episodeflow uploader -c config/storage.yaml
    """
    from services.uploader.__main__ import serve  # noqa: PLC0415 - the help needs no service

    sys.exit(serve(config_path, spool))
