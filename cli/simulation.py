"""The simulated robot in a process of its own, and what `record` is told to record it with.

The recorder finds four serial ports and calibration files, as it would with servos on a table.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from cli.child import Child
from cli.state import StateFolder
from services.recorder.robots.calibration import calibration_folder
from shared.errors import Refused

ROBOT_ID = "sim"
REPO_ID = "demo/blocks"
CAMERAS = ("front", "left", "right")

_COMMAND = (sys.executable, "-P", "-c", "from cli.main import main; main()", "simulate")
_FPS = 30
_READY_TIMEOUT_S = 60.0
_GRACE_S = 5.0
_LOOK_EVERY_S = 0.02


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The device paths of a simulated robot, as `simulate --json` writes them."""

    left_leader: str
    left_follower: str
    right_leader: str
    right_follower: str


@asynccontextmanager
async def simulated(state: StateFolder, environ: Mapping[str, str]) -> AsyncIterator[Ports]:
    """Run the simulated robot for the block, in a process of its own.

    Args:
        state: keeps the calibration files, the ports and the log.
        environ: of the process.

    Raises:
        Refused: the folder cannot be made, or the robot ended while it was starting, or takes too long.
    """
    path = state.path / "ports.json"
    try:
        state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        state.logs.mkdir(mode=0o700, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Refused(f"{state.path} cannot be the state folder: {error}; choose another with --state") from error
    command = [*_COMMAND, "--json", str(path), "--calibration", str(calibration_root(state)), "--id", ROBOT_ID]
    child = Child("simulate", command, environ=environ, log_path=state.logs / "simulate.log", on_change=lambda: None)
    stopping = asyncio.Event()
    running = asyncio.create_task(child.run(stopping, grace_s=_GRACE_S))
    try:
        yield await _ports(path, child)
    finally:
        stopping.set()
        await running


def calibration_root(state: StateFolder) -> Path:
    """Return the folder that HF_LEROBOT_CALIBRATION would name."""
    return state.path / "calibration"


def recording_document(
    ports: Ports, state: StateFolder, *, num_episodes: int, episode_time_s: float, reset_time_s: float
) -> dict[str, Any]:
    """Return the flags of `record` as a file holds them, for this robot with three synthetic cameras.

    Args:
        ports: of the robot.
        state: keeps the calibration files, and the dataset in the folder ``dataset``.
        num_episodes: how many the dataset shall have.
        episode_time_s: length of an episode.
        reset_time_s: time between two episodes.
    """
    environ = {"HF_LEROBOT_CALIBRATION": str(calibration_root(state))}
    arms = {
        kind: {
            "type": f"bi_so100_{role}",
            "id": ROBOT_ID,
            "left_arm_port": left,
            "right_arm_port": right,
            "calibration_dir": str(calibration_folder(f"so100_{role}", environ)),
        }
        for kind, role, left, right in (
            ("robot", "follower", ports.left_follower, ports.right_follower),
            ("teleop", "leader", ports.left_leader, ports.right_leader),
        )
    }
    camera = {"type": "opencv", "width": 640, "height": 480, "fps": _FPS, "warmup_s": 0}  # nothing has to settle
    cameras = {name: {**camera, "index_or_path": f"sim://{name}"} for name in CAMERAS}
    dataset = {
        "repo_id": REPO_ID,
        "root": str(state.path / "dataset"),
        "single_task": "Put the red cube into the tray.",
        "fps": _FPS,
        "num_episodes": num_episodes,
        "episode_time_s": episode_time_s,
        "reset_time_s": reset_time_s,
    }
    return {"robot": {**arms["robot"], "cameras": cameras}, "teleop": arms["teleop"], "dataset": dataset, "play_sounds": False}


async def _ports(path: Path, child: Child) -> Ports:
    """Wait until the robot's ports work."""
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while (ports := _written(path)) is None:
                if child.restarts:
                    raise Refused(f"the simulated robot ended while starting: {child.last_words()} (see {child.log_path})")
                await asyncio.sleep(_LOOK_EVERY_S)  # the file is all that the process says
    except TimeoutError as error:
        raise Refused(f"the simulated robot is not ready within {_READY_TIMEOUT_S:g} s: see {child.log_path}") from error
    return ports


def _written(path: Path) -> Ports | None:
    """Return what the file says once it is there; it appears whole."""
    return msgspec.json.decode(path.read_bytes(), type=Ports) if path.exists() else None
