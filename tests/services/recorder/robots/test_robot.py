"""Two arms as one robot."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.errors import RobotUnreachable
from services.recorder.robots.models import JOINTS
from services.recorder.robots.robot import connected_robot
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.arms import IMPATIENT, PATIENT, bimanual, places

FOLLOWERS = ("left_follower", "right_follower")


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


def torques(robot: SimulatedRobot) -> set[int]:
    return {robot.servo(name, joint).get(registers.TORQUE_ENABLE) for name in FOLLOWERS for joint in JOINTS}


async def test_joints_are_all_left_then_all_right(tmp_path: Path, robot: SimulatedRobot) -> None:
    goals = [float(value) for value in range(12)]
    async with connected_robot(bimanual(robot, "follower"), kind="robot", environ=places(tmp_path), settings=PATIENT) as own:
        assert own.robot_type == "bi_so100_follower"
        assert own.joint_names == tuple(f"{side}_{joint}" for side in ("left", "right") for joint in JOINTS)
        await own.send(goals)
        async with asyncio.timeout(10):
            while max(abs(now - goal) for now, goal in zip(await own.positions(), goals, strict=True)) > 0.3:
                assert torques(robot) == {1}
        assert list(own.counts) == [robot.ports[name] for name in FOLLOWERS]

    assert torques(robot) == {0}


async def test_leaders_drive_followers_and_the_rate_is_measured(tmp_path: Path, robot: SimulatedRobot) -> None:
    environ = places(tmp_path)
    async with (
        connected_robot(bimanual(robot, "follower"), kind="robot", environ=environ, settings=PATIENT) as follower,
        connected_robot(bimanual(robot, "leader"), kind="teleop", environ=environ, settings=PATIENT) as leader,
    ):
        async with asyncio.timeout(20):
            while True:
                wanted = await leader.positions()
                present = await follower.positions()
                await follower.send(wanted, present=present)
                if max(abs(now - goal) for now, goal in zip(present, wanted, strict=True)) < 20:
                    break
        rate_hz = await follower.measured_rate_hz(num_reads=10)

    assert rate_hz > 0
    assert sum(counts.num_failures for counts in follower.counts.values()) == 0


async def test_a_wrong_number_of_goals_is_a_mistake_of_the_caller(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with connected_robot(bimanual(robot, "follower"), kind="robot", environ=places(tmp_path), settings=PATIENT) as own:
        with pytest.raises(ValueError, match="3 goals for 12 joints"):
            await own.send([1.0, 2.0, 3.0])


async def test_an_arm_that_fails_to_connect_leaves_the_other_free(tmp_path: Path, robot: SimulatedRobot) -> None:
    robot.terminals["right_follower"].line.faults = Faults(missing=1)
    with pytest.raises(RobotUnreachable, match=r"servo 1 \(right_shoulder_pan\)"):
        async with connected_robot(bimanual(robot, "follower"), kind="robot", environ=places(tmp_path), settings=IMPATIENT):
            pass

    assert torques(robot) == {0}


async def test_an_unplugged_arm_ends_the_session_and_the_other_is_free(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with connected_robot(bimanual(robot, "follower"), kind="robot", environ=places(tmp_path), settings=PATIENT) as own:
            robot.terminals["left_follower"].close()
            await own.positions()

    with pytest.raises(RobotUnreachable, match="the port is gone") as raised:
        await session()

    told = "the left follower may still hold its position, its port is gone: switch the arm's power off before touching it"
    assert [note.partition(": ")[2] for note in raised.value.__notes__] == [told]

    assert {robot.servo("right_follower", joint).get(registers.TORQUE_ENABLE) for joint in JOINTS} == {0}
