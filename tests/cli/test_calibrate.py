"""`episodeflow calibrate` fed through its standard input while the simulated arm moves."""

import os
import subprocess
from pathlib import Path

from click.testing import CliRunner

from cli.main import commands
from services.recorder.robots.calibration import read_calibration
from tests.cli.test_simulate import EPISODEFLOW, simulating


def calibrating(environment: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [EPISODEFLOW, "calibrate", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env={**os.environ, "HF_LEROBOT_CALIBRATION": str(environment)},
    )


def wait_for(process: "subprocess.Popen[str]", *texts: str) -> str:
    """Read the process's lines until one has all of the texts, and return it."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if all(text in line for text in texts):
            return line
    raise AssertionError(f"never came: {texts} in {''.join(seen)}")


def has_moved(line: str) -> bool:
    """Whether every joint of a line of ranges moved far."""
    ranges = [pair.rsplit(" ", 1)[1].split("<") for pair in line.strip().split("  ")]
    return all(int(highest) - int(lowest) > 60 for lowest, _, highest in ranges)


def press_enter(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")


def test_a_leader_is_calibrated_through_a_plain_terminal(tmp_path: Path) -> None:
    with simulating(tmp_path, "--uncalibrated") as (_, ports):
        arguments = ("--teleop.type=so100_leader", f"--teleop.port={ports['left_leader']}", "--teleop.id=mine")
        with calibrating(tmp_path, *arguments) as process:
            wait_for(process, "middle")
            press_enter(process)
            while not has_moved(wait_for(process, "shoulder_pan", "<")):
                assert process.poll() is None
            press_enter(process)
            saved = wait_for(process, "Calibration saved")
            assert process.wait(20) == 0

    path = tmp_path / "teleoperators" / "so100_leader" / "mine.json"
    assert str(path) in saved
    gripper = read_calibration(path, command="")["gripper"]
    assert gripper.range_max - gripper.range_min > 60


def test_input_that_ends_is_a_sentence_and_nothing_is_saved(tmp_path: Path) -> None:
    with simulating(tmp_path, "--uncalibrated") as (_, ports):
        arguments = ("--robot.type=so100_follower", f"--robot.port={ports['left_follower']}", "--robot.id=mine")
        with calibrating(tmp_path, *arguments) as process:
            printed, _ = process.communicate("", timeout=30)

    assert process.returncode == 1
    assert "error: standard input: ended before the calibration was done" in printed
    assert not (tmp_path / "robots").exists()


def test_a_call_without_an_arm_says_what_is_missing() -> None:
    result = CliRunner().invoke(commands, ["calibrate"])

    assert result.exit_code == 2
    assert "name an arm: --robot.type=" in result.output
