"""`episodeflow demo`: the whole pipeline once, on episodes of a simulated robot."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click


@click.command("demo")
@click.option("--state", "state_path", type=click.Path(path_type=Path), help="Folder that keeps everything. [default: a temporary one]")
@click.option("--episodes", "num_episodes", type=click.IntRange(min=1), default=2, show_default=True, help="How many episodes.")
def command(state_path: Path | None, num_episodes: int) -> None:
    """Run the whole pipeline once on this machine, and show how long each stage takes.

    Starts NATS, Valkey and the services, lets a simulated two-armed robot record episodes, announces them, waits until they
    are converted and uploaded, checks the datasets, and stops everything again.

    \b
    Example: episodeflow demo --episodes 4
    """
    from cli.demonstration import demonstrate  # noqa: PLC0415 - the help needs no server

    demonstrate(state_path or Path(tempfile.mkdtemp(prefix="episodeflow-demo-")), num_episodes)
