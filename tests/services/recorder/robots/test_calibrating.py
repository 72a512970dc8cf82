"""Calibrating an arm with a person who moves it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.arm import configured_arm, opened_arm
from services.recorder.robots.calibrating import Ranges, calibrated
from services.recorder.robots.calibration import read_calibration, write_calibration
from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.models import JOINTS
from services.recorder.simulation.robot import SimulatedRobot, simulated_calibration, simulated_robot
from tests.services.recorder.arms import PATIENT, plan


class Person:
    """Answers from a list; the last question waits until every joint was seen to move far enough."""

    def __init__(self, *answers: str, far_enough: int = 100) -> None:
        self.heard: list[str] = []
        self._answers = list(answers)
        self._far_enough = far_enough
        self._moved = asyncio.Event()

    def say(self, text: str) -> None:
        self.heard.append(text)

    async def ask(self, text: str) -> str:
        self.heard.append(text)
        if text.startswith("Press Enter when"):
            await asyncio.wait_for(self._moved.wait(), 20)
        return self._answers.pop(0) if self._answers else ""

    def show(self, ranges: Ranges) -> None:
        if all(highest - lowest >= self._far_enough for lowest, _, highest in ranges.values()):
            self._moved.set()


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot(is_calibrated=False, is_hand_moved=True) as running:
        yield running


async def test_file_and_servos_hold_the_middle_and_the_range_and_the_arm_connects(tmp_path: Path, robot: SimulatedRobot) -> None:
    environ = {"HF_LEROBOT_CALIBRATION": str(tmp_path)}
    path = tmp_path / "robots" / "so100_follower" / "sim_left.json"
    person = Person()
    async with opened_arm(plan(robot), settings=PATIENT) as arm:
        found = await calibrated(arm, path=path, person=person)

    assert read_calibration(path, command="") == found
    for joint, wanted in found.items():
        servo = robot.servo("left_follower", joint)
        assert servo.get(registers.HOMING_OFFSET) == wanted.homing_offset
        assert servo.get(registers.MIN_POSITION_LIMIT) == wanted.range_min
        assert (wanted.range_min, wanted.range_max) == (0, 4095) or 100 <= wanted.range_max - wanted.range_min < 3000
    assert (found["wrist_roll"].range_min, found["wrist_roll"].range_max) == (0, 4095)
    assert "middle" in person.heard[0]
    async with configured_arm(plan(robot), environ=environ, settings=PATIENT) as arm:
        assert all(-100 <= value <= 100 for value in await arm.positions())


async def test_an_arm_that_nobody_moves_is_refused_and_nothing_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with simulated_robot(is_calibrated=False) as still:
        async with opened_arm(plan(still), settings=PATIENT) as arm:
            with pytest.raises(RobotRefused, match=r"shoulder_pan, .*gripper did not move, expected every joint at both ends"):
                await calibrated(arm, path=path, person=Person(far_enough=0))

    assert not path.exists()


async def test_an_existing_file_is_written_to_the_servos_on_enter(tmp_path: Path, robot: SimulatedRobot) -> None:
    path = tmp_path / "a.json"
    write_calibration(path, simulated_calibration("left_follower"))
    async with opened_arm(plan(robot), settings=PATIENT) as arm:
        await calibrated(arm, path=path, person=Person(""))

    for joint, wanted in simulated_calibration("left_follower").items():
        servo = robot.servo("left_follower", joint)
        assert (servo.get(registers.HOMING_OFFSET), servo.get(registers.MAX_POSITION_LIMIT)) == (wanted.homing_offset, wanted.range_max)


async def test_c_calibrates_again(tmp_path: Path, robot: SimulatedRobot) -> None:
    path = tmp_path / "a.json"
    write_calibration(path, simulated_calibration("left_follower"))
    async with opened_arm(plan(robot), settings=PATIENT) as arm:
        found = await calibrated(arm, path=path, person=Person("c"))

    assert read_calibration(path, command="") == found != simulated_calibration("left_follower")
    assert list(found) == list(JOINTS)
