"""`episodeflow record`: teleoperate and record, as `lerobot-record` does, with LeRobot's own flags."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from services.recorder.options import RecordOptions


@click.command("record", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), help="Storage file: use its servers. [default: run our own]"
)
@click.option("--config_path", "flags_path", type=click.Path(path_type=Path), help="YAML file with the flags below, nested.")
@click.option(
    "--state", "state_path", type=click.Path(path_type=Path), help="Folder for what has not gone out yet, and for our own servers."
)
@click.pass_context
def command(ctx: click.Context, config_path: Path | None, flags_path: Path | None, state_path: Path | None) -> None:
    """Teleoperate a robot and record episodes into a growing LeRobot dataset.

    \b
    --robot.type=bi_so100_follower --robot.left_arm_port= --robot.right_arm_port= --robot.id=
    --robot.cameras='{ top: {type: opencv, index_or_path: 0, width: 640, height: 480, fps: 30} }'
    --teleop.type=bi_so100_leader --teleop.left_arm_port= --teleop.right_arm_port= --teleop.id=
    --dataset.repo_id=user/name --dataset.single_task="Stack blocks." --dataset.num_episodes=50
    --dataset.fps=30 --dataset.episode_time_s=60 --dataset.reset_time_s=60 --dataset.resume=true
    --dataset.root= --dataset.push_to_hub=true --dataset.strategy=nearest --dataset.vcodec=h264
    --display_data=true --play_sounds=false --control_rate_hz=200 --hold_during_reset=true

    Keys: right arrow or n ends an episode or the reset, left arrow or r records it again, Esc or q stops. They are read from
    the terminal, so they work over SSH. Without -c the servers run here, as long as the recording does; at the end the dataset
    lies where LeRobot looks for it. docs/recording.md explains every flag.

    \b
    Example: episodeflow simulate --calibration ./calibration       # in another terminal: a robot without hardware
    Example: episodeflow record --config_path record.yaml --dataset.num_episodes=50 --dataset.resume=true
    """
    from services.recorder.options import record_options  # noqa: PLC0415 - the help needs no robot
    from shared.settings import read_yaml  # noqa: PLC0415

    file = read_yaml(flags_path, os.environ) if flags_path else None
    options = record_options(ctx.args, file=file, place=str(flags_path) if flags_path else "")
    asyncio.run(_recorded(options, config_path=config_path, state_path=state_path))


async def _recorded(options: RecordOptions, *, config_path: Path | None, state_path: Path | None) -> None:
    from cli.recording import record  # noqa: PLC0415

    await record(options, config_path=config_path, state_path=state_path, environ=dict(os.environ))
