"""`episodeflow recorder`: the options of the recorder service."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli import operation


@click.command("recorder", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@operation.config_option
@click.option("--config_path", "flags_path", type=click.Path(path_type=Path), help="YAML file with the flags of `record`, nested.")
@click.option(
    "--state",
    "state_path",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/episodeflow"),
    show_default=True,
    help="Folder for what has not gone out yet.",
)
@click.pass_context
def command(ctx: click.Context, config_path: Path, flags_path: Path | None, state_path: Path) -> None:
    """Drive a robot, and record episodes when asked over the bus: the recorder as a service on the robot host.

    Takes the flags of `record`, from the file and after it. Requests go to episodeflow.recorder.ROBOT.start, .stop, .discard
    and .status, where ROBOT is --robot.id; start may carry {"task": "..."}.

    \b
    Example: episodeflow recorder -c config/storage.yaml --config_path record.yaml
             nats request episodeflow.recorder.white.start ''
    """
    from services.recorder.__main__ import serve  # noqa: PLC0415 - the help needs no robot

    sys.exit(serve(config_path, ctx.args, flags_path=flags_path, state=state_path))
