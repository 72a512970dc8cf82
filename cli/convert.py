"""`episodeflow convert`: the options. What a conversion does with them stands in ``cli/conversion.py``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, get_args

import click

from services.converter import worker
from shared.events import Strategy


@click.command("convert")
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), required=True, help="Strategy file (YAML).")
@click.option("-e", "--episode", "names", multiple=True, metavar="NAME", help="Convert only this episode; may be repeated.")
@click.option("--strategy", type=click.Choice(get_args(Strategy)), help="Alignment strategy in place of the file's.")
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Folder of raw episodes in place of the file's.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the dataset in place of the file's.")
@click.option("--max-workers", type=click.IntRange(min=1), help="Episodes converted at once. [default: cores / cameras]")
@click.option("--overwrite", is_flag=True, help="Start the dataset anew instead of adding to it.")
def command(
    config_path: Path,
    names: tuple[str, ...],
    strategy: str | None,
    input_path: Path | None,
    output: Path | None,
    max_workers: int | None,
    overwrite: bool,
) -> None:
    """Convert local raw episodes into one LeRobot v2.1 dataset.

    Exit status 1 if an episode failed; the others are in the dataset all the same.
    """
    worker.preload("cli.main")  # its libraries load beside ours
    from cli import conversion  # noqa: PLC0415

    config = conversion.load(config_path, os.environ, _overrides(strategy, input_path, output))
    all_converted = conversion.convert_all(config, names, max_workers=max_workers, overwrite=overwrite)
    sys.exit(0 if all_converted else 1)


def _overrides(strategy: str | None, input_path: Path | None, output: Path | None) -> dict[str, Any]:
    chosen = {
        "alignment.strategy": strategy,
        "input.data_path": input_path and str(input_path),
        "input.images_path": input_path and str(input_path),
        "output.base_path": output and str(output),
    }
    return {key: value for key, value in chosen.items() if value}
