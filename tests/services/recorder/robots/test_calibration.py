"""LeRobot's calibration files and their places."""

import json
from pathlib import Path

import pytest

from services.recorder.robots.calibration import calibration_folder, read_calibration, write_calibration
from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.models import JOINTS
from services.recorder.simulation.robot import simulated_calibration

SOUND = {joint: {"id": i, "drive_mode": 0, "homing_offset": -1470, "range_min": 758, "range_max": 3292} for joint, i in JOINTS.items()}


@pytest.mark.parametrize(
    ("environ", "root"),
    [
        ({"HF_LEROBOT_CALIBRATION": "/c", "HF_LEROBOT_HOME": "/h"}, "/c"),
        ({"HF_LEROBOT_HOME": "/h", "HF_HOME": "/x"}, "/h/calibration"),
        ({"HF_HOME": "/x"}, "/x/lerobot/calibration"),
        ({"XDG_CACHE_HOME": "/y"}, "/y/huggingface/lerobot/calibration"),
        ({}, str(Path("~/.cache/huggingface/lerobot/calibration").expanduser())),
    ],
)
def test_files_lie_where_lerobot_looks(environ: dict[str, str], root: str) -> None:
    assert calibration_folder("so100_follower", environ) == Path(root, "robots", "so100_follower")
    assert calibration_folder("so101_leader", environ) == Path(root, "teleoperators", "so101_leader")


def test_file_is_written_as_lerobot_writes_it_and_read_back(tmp_path: Path) -> None:
    calibration = simulated_calibration("left_follower")
    path = tmp_path / "robots" / "so100_follower" / "a_left.json"
    write_calibration(path, calibration)

    assert read_calibration(path, command="") == calibration
    assert path.read_text().startswith('{\n    "shoulder_pan": {\n        "id": 1,\n        "drive_mode": 0,\n        "homing_offset": ')
    assert [found.name for found in path.parent.iterdir()] == ["a_left.json"]


def test_joints_are_in_the_order_of_the_servos_whatever_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(dict(reversed(SOUND.items()))))

    assert list(read_calibration(path, command="")) == list(JOINTS)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RobotRefused, match=r"none\.json: the arm has no calibration: run `episodeflow calibrate --x` once"):
        read_calibration(tmp_path / "none.json", command="episodeflow calibrate --x")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is no calibration of LeRobot"),
        ("\xff", "is no calibration of LeRobot"),
        ('{"elbow": 1}', "is no calibration of LeRobot"),
        (json.dumps({"gripper": SOUND["gripper"]}), "holds the joints gripper, expected shoulder_pan"),
        (json.dumps({**SOUND, "gripper": {**SOUND["gripper"], "id": 1}}), "gripper has servo id 1, expected 6"),
        (json.dumps({**SOUND, "gripper": {**SOUND["gripper"], "range_max": 758}}), "gripper has the range 758 to 758"),
        (json.dumps({**SOUND, "gripper": {**SOUND["gripper"], "homing_offset": 5000}}), "homing_offset"),
    ],
)
def test_what_is_no_calibration_is_refused_with_file_and_command(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="latin-1")

    with pytest.raises(RobotRefused, match=f"{path}.*{problem}.*run `again`"):
        read_calibration(path, command="again")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "robots").write_text("")

    with pytest.raises(RobotRefused, match=r"cannot be written: Not a directory|cannot be written: File exists"):
        write_calibration(tmp_path / "robots" / "a.json", simulated_calibration("left_leader"))
