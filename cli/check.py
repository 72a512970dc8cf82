"""`episodeflow check`: what is wrong with a dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command("check")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Read the times in the videos instead of decoding every frame.")
@click.option("--provenance", "is_provenance", is_flag=True, help="Also hash videos and rows against the manifests.")
@click.option("--raw", type=click.Path(path_type=Path), metavar="DIR", help="With --provenance: also hash the raw episodes below DIR.")
def command(dataset: Path, quick: bool, is_provenance: bool, raw: Path | None) -> None:
    """Find everything that is wrong with the LeRobot v2.1 dataset in the folder DATASET.

    Prints one line for each problem: files, counts, schemas, statistics, timestamps, videos that do not decode. Changes
    nothing. Exit status 1 if there is a problem.

    \b
    Example: episodeflow check ./lerobot_dataset_chunking
    Example: episodeflow check ./lerobot_dataset_chunking --provenance --raw ./raw_datas
    """
    if raw is not None and not is_provenance:
        raise click.UsageError("--raw goes with --provenance")
    from shared.lerobot.check import check_dataset  # noqa: PLC0415 - the help needs no codec libraries

    report = check_dataset(dataset, quick=quick)
    problems = [(problem.path, problem.problem) for problem in report.problems]
    counts = f"{report.episodes} episodes, {report.frames} frames, {report.videos} videos, {report.tasks} tasks"
    if is_provenance and report.episodes:
        from cli.provenance import verified  # noqa: PLC0415

        verification = verified(dataset, raw)
        problems += [(problem.path, problem.problem) for problem in verification.problems]
        counts += f", {verification.files} files hashed for {verification.episodes} manifests"
    for path, problem in problems:
        click.echo(f"{path}: {problem}" if not problem.startswith(path) else problem)
    if problems:
        click.echo(f"{dataset}: {len(problems)} problems in {counts}", err=True)
        sys.exit(1)
    click.echo(f"{dataset}: sound ({counts}{', videos not decoded' if quick else ''})")
