"""`episodeflow demo`: a simulated robot is recorded, and its episodes go the whole way into a dataset."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click


@click.command("demo")
@click.option("--state", "state_path", type=click.Path(path_type=Path), help="Folder that keeps everything. [default: a temporary one]")
@click.option("--episodes", "num_episodes", type=click.IntRange(min=1), default=2, show_default=True, help="How many episodes.")
def command(state_path: Path | None, num_episodes: int) -> None:
    """Record a simulated robot on this machine, and show how long each stage takes.

    Starts a simulated two-armed robot behind serial ports, NATS, Valkey and the services, records with the recorder itself
    (three synthetic cameras, 200 Hz, its keys work too), waits until the episodes are in a growing LeRobot dataset, checks
    it, and stops everything again. With the --state of an earlier demo the dataset goes on growing.

    \b
    Example: episodeflow demo --episodes 4
    """
    from cli.demonstration import demonstrate  # noqa: PLC0415 - the help needs no server

    demonstrate(state_path or Path(tempfile.mkdtemp(prefix="episodeflow-demo-")), num_episodes)
