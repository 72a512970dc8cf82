"""`episodeflow check`: what is wrong with a dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("check")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Read the times in the videos instead of decoding every frame.")
def command(dataset: Path, quick: bool) -> None:
    """Find everything that is wrong with the LeRobot v2.1 dataset in the folder DATASET.

    Prints one line for each problem: files, counts, schemas, statistics, timestamps, videos that do not decode. Changes
    nothing. Exit status 1 if there is a problem.

    \b
    Example: episodeflow check ./lerobot_dataset_chunking
    """
    from shared.lerobot.check import check_dataset  # noqa: PLC0415 - the help needs no codec libraries

    report = check_dataset(dataset, quick=quick)
    for problem in report.problems:
        click.echo(f"{problem.path}: {problem.problem}" if not problem.problem.startswith(problem.path) else problem.problem)
    counts = f"{report.episodes} episodes, {report.frames} frames, {report.videos} videos, {report.tasks} tasks"
    if report.problems:
        click.echo(f"{dataset}: {len(report.problems)} problems in {counts}", err=True)
        sys.exit(1)
    click.echo(f"{dataset}: sound ({counts}{', videos not decoded' if quick else ''})")
