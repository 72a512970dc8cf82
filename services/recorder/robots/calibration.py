"""LeRobot's calibration files: where they lie, what they hold, reading and writing them.

The file of an arm is ``{calibration folder}/robots/so100_follower/{id}.json`` (``teleoperators/so100_leader`` for a leader). A
bimanual robot's arms own the files, as ``{id}_left`` and ``{id}_right`` below the single arm's type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.models import JOINTS
from services.recorder.robots.normalisation import Calibration

Environ = Mapping[str, str]


def lerobot_home(environ: Environ) -> Path:
    """Return the folder that LeRobot keeps its things in."""
    if environ.get("HF_LEROBOT_HOME"):
        return Path(environ["HF_LEROBOT_HOME"]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "lerobot"
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "lerobot"


def calibration_folder(arm_type: str, environ: Environ) -> Path:
    """Return the folder of the calibration files of a type of arm (``so100_follower``)."""
    named = environ.get("HF_LEROBOT_CALIBRATION")
    root = Path(named).expanduser() if named else lerobot_home(environ) / "calibration"
    return root / ("teleoperators" if arm_type.endswith("_leader") else "robots") / arm_type


def read_calibration(path: Path, *, command: str) -> Calibration:
    """Return the calibration in a file.

    Args:
        path: the file.
        command: what a person runs to make it, for the messages.

    Raises:
        RobotRefused: there is none, it cannot be read, or it is not the calibration of such an arm.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise RobotRefused(f"{path}: the arm has no calibration: run `{command}` once, with the arm's power on") from error
    except OSError as error:
        raise RobotRefused(f"{path}: cannot be read: {error.strerror}") from error
    try:
        found = msgspec.json.decode(content, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RobotRefused(f"{path}: is no calibration of LeRobot ({error}): run `{command}` to make a new one") from error
    problem = _problem(found)
    if problem:
        raise RobotRefused(f"{path}: {problem}: run `{command}` to make a new one")
    return {joint: found[joint] for joint in JOINTS}


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as LeRobot does; it is whole or not there.

    Raises:
        RobotRefused: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(msgspec.to_builtins(calibration), indent=4), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise RobotRefused(f"{path}: the calibration cannot be written: {error.strerror}; the servos hold it already") from error


def _problem(found: Calibration) -> str:
    if set(found) != set(JOINTS):
        return f"holds the joints {', '.join(sorted(found)) or 'none'}, expected {', '.join(JOINTS)}"
    for joint, servo_id in JOINTS.items():
        wanted = found[joint]
        if wanted.id != servo_id:
            return f"{joint} has servo id {wanted.id}, expected {servo_id}"
        if wanted.range_min >= wanted.range_max:
            return f"{joint} has the range {wanted.range_min} to {wanted.range_max}, expected one that it can move in"
    return ""
