"""The simulated robot as a process, and the flags with which `record` finds it."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from cli.simulation import Ports, recording_document, simulated
from cli.state import StateFolder
from services.recorder.options import record_options
from services.recorder.robots.models import JOINTS
from services.recorder.robots.robot import connected_robot
from shared.errors import Refused


async def test_its_ports_answer_as_calibrated_arms_until_the_block_ends(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    async with simulated(state, os.environ) as ports:
        options = record_options([], file=document(ports, state))
        async with connected_robot(options.robot, kind="robot", environ={}) as robot:
            positions = await robot.positions()
    running = [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(process.info["cmdline"] or [])]

    assert len(positions) == 2 * len(JOINTS)
    assert all(-100 <= position <= 100 for position in positions)
    assert running == []


async def test_ports_of_an_earlier_robot_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    earlier = '{"left_leader": "/gone", "left_follower": "/gone", "right_leader": "/gone", "right_follower": "/gone"}'
    (tmp_path / "ports.json").write_text(earlier)
    async with simulated(state, os.environ) as ports:
        found = {ports.left_leader, ports.left_follower, ports.right_leader, ports.right_follower}

    assert len(found) == 4
    assert "/gone" not in found


async def test_a_robot_that_ends_while_starting_is_one_sentence_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "calibration").write_text("no folder")

    with pytest.raises(Refused, match=r"the simulated robot ended while starting: .+ \(see .*simulate\.log\)"):
        async with simulated(StateFolder(tmp_path), os.environ):
            pass


async def test_a_place_that_can_be_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Refused, match=r"file cannot be the state folder: .*choose another with --state"):
        async with simulated(StateFolder(tmp_path / "file"), os.environ):
            pass


def test_the_dataset_and_the_calibration_lie_in_the_state_folder(tmp_path: Path) -> None:
    ports = Ports(left_leader="a", left_follower="b", right_leader="c", right_follower="d")
    options = record_options([], file=document(ports, StateFolder(tmp_path)))

    assert options.dataset.root == str(tmp_path / "dataset")
    assert options.robot.calibration_dir == str(tmp_path / "calibration" / "robots" / "so100_follower")
    assert options.teleop.calibration_dir == str(tmp_path / "calibration" / "teleoperators" / "so100_leader")
    assert (options.robot.left_arm_port, options.robot.right_arm_port) == ("b", "d")
    assert (options.teleop.left_arm_port, options.teleop.right_arm_port) == ("a", "c")
    assert all(camera.is_simulated and camera.capture_size == (640, 480) for camera in options.cameras.values())


def document(ports: Ports, state: StateFolder) -> dict[str, object]:
    return recording_document(ports, state, num_episodes=2, episode_time_s=4, reset_time_s=0)
