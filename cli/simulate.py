"""`episodeflow simulate`: a robot without hardware."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from shared.errors import BadConfig
from shared.lifecycle import stopped_by_signals


@click.command("simulate")
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the ports as JSON; FILE appears when they work.",
)
@click.option(
    "--faults", multiple=True, metavar="PORT.KIND=VALUE,…", help="What goes wrong: missing, silence, corrupt, slow, unplug, echo."
)
@click.option(
    "--calibration", "calibration_dir", type=click.Path(path_type=Path), metavar="DIR", help="Write the arms' calibration files to DIR."
)
@click.option(
    "--id", "robot_id", default="sim", show_default=True, help="--robot.id and --teleop.id, for the names of the calibration files."
)
@click.option("--uncalibrated", "is_uncalibrated", is_flag=True, help="Servos as the factory sends them.")
@click.option("--hand", "is_hand_moved", is_flag=True, help="Somebody moves the followers too while they have no torque.")
def command(
    json_path: Path | None, faults: tuple[str, ...], calibration_dir: Path | None, robot_id: str, is_uncalibrated: bool, is_hand_moved: bool
) -> None:
    """Simulate a bimanual robot: two leaders that move, two followers that follow, a serial port for each.

    Prints the four ports and runs until it is stopped. The ports speak the servos' protocol byte for byte; whoever opens
    them cannot tell the difference.

    \b
    Example: episodeflow simulate --calibration ./calibration
    Example: episodeflow simulate --json ports.json --faults left_follower.missing=3,right_leader.slow=80
    """
    from services.recorder.simulation.faults import merged_faults  # noqa: PLC0415 - the help needs no robot
    from services.recorder.simulation.robot import write_calibrations  # noqa: PLC0415

    by_port = merged_faults(faults)
    written: list[Path] = []
    if calibration_dir is not None:
        for family in ("so100", "so101"):
            written += write_calibrations(calibration_dir.absolute(), robot_id=robot_id, family=family)
    asyncio.run(
        _simulated(
            by_port,
            json_path=json_path,
            calibration_dir=calibration_dir.absolute() if written and calibration_dir else None,
            robot_id=robot_id,
            is_calibrated=not is_uncalibrated,
            is_hand_moved=True if is_hand_moved else None,
        )
    )


async def _simulated(
    faults: Any, *, json_path: Path | None, calibration_dir: Path | None, robot_id: str, is_calibrated: bool, is_hand_moved: bool | None
) -> None:
    from services.recorder.priority import real_time_priority  # noqa: PLC0415
    from services.recorder.simulation.robot import simulated_robot  # noqa: PLC0415

    stopping = asyncio.Event()
    simulated = simulated_robot(faults, is_calibrated=is_calibrated, is_hand_moved=is_hand_moved)
    with stopped_by_signals(stopping), real_time_priority(), simulated as robot:  # real servos wait for no other program either
        for name, path in robot.ports.items():
            click.echo(f"{name:15}{path}")
        for line in _advice(robot.ports, calibration_dir=calibration_dir, robot_id=robot_id):
            click.echo(line)
        if json_path is not None:
            _write(json_path, {**robot.ports, "id": robot_id, "calibration": str(calibration_dir) if calibration_dir else None})
        await stopping.wait()


def _advice(ports: dict[str, str], *, calibration_dir: Path | None, robot_id: str) -> list[str]:
    """Return the options that use these ports, as a person pastes them."""
    lines = [""]
    if calibration_dir is not None:
        lines.append(f"export HF_LEROBOT_CALIBRATION={calibration_dir}")
    for kind, role in (("robot", "follower"), ("teleop", "leader")):
        left, right = ports[f"left_{role}"], ports[f"right_{role}"]
        lines.append(f"--{kind}.type=bi_so100_{role} --{kind}.left_arm_port={left} --{kind}.right_arm_port={right} --{kind}.id={robot_id}")
    return [*lines, "", "Running until Ctrl-C."]


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON file that is whole or not there: somebody waits for it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise BadConfig("--json", "", f"{path} cannot be written: {error.strerror}") from error
