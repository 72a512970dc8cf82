"""Arms are let go together."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.errors import RobotUnreachable, TorqueUnconfirmed
from services.recorder.robots.held import cut_torque
from services.recorder.robots.models import JOINTS
from services.recorder.robots.robot import connected_robot
from services.recorder.robots.servo_bus import BusSettings
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.arms import PATIENT, bimanual, places

FOLLOWERS = ("left_follower", "right_follower")
HASTY = BusSettings(margin_s=0.1)
LONGEST_CUT_S = 0.5
"""Fifteen milliseconds, and room for a busy machine."""


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


def torques(robot: SimulatedRobot, *names: str) -> set[int]:
    return {robot.servo(name, joint).get(registers.TORQUE_ENABLE) for name in names or FOLLOWERS for joint in JOINTS}


def silence(robot: SimulatedRobot, *names: str) -> None:
    for name in names:
        robot.terminals[name].line.faults = Faults(silence=0.0)


@asynccontextmanager
async def teleoperated(robot: SimulatedRobot, folder: Path, settings: BusSettings, **options: object) -> AsyncIterator[None]:
    """Connect followers and then leaders, as the recorder does."""
    environ = places(folder)
    async with AsyncExitStack() as stack:
        for role, kind in (("follower", "robot"), ("leader", "teleop")):
            own = bimanual(robot, role, **(options if role == "follower" else {}))
            await stack.enter_async_context(connected_robot(own, kind=kind, environ=environ, settings=settings))  # type: ignore[arg-type]
        yield


async def until_free(robot: SimulatedRobot, *names: str) -> None:
    deadline_s = time.monotonic() + 5
    while torques(robot, *names) != {0}:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.001)


async def test_torque_is_cut_at_once_and_without_an_answer(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with teleoperated(robot, tmp_path, PATIENT):
        before = torques(robot)
        start_s = time.monotonic()
        cut_torque()
        duration_s = time.monotonic() - start_s
        await until_free(robot)

    assert before == {1}
    assert duration_s < LONGEST_CUT_S


async def test_torque_that_is_to_be_kept_is_not_cut(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with teleoperated(robot, tmp_path, PATIENT, disable_torque_on_disconnect=False):
        cut_torque()

    assert torques(robot) == {1}


async def test_a_port_that_is_gone_keeps_no_other_arm_under_torque(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with teleoperated(robot, tmp_path, PATIENT):
            robot.terminals["left_follower"].close()
            cut_torque()
            await until_free(robot, "right_follower")

    with pytest.raises(RobotUnreachable, match="left follower may still hold its position, its port is gone"):
        await session()


async def test_followers_are_free_while_a_silent_leader_is_still_asked(tmp_path: Path, robot: SimulatedRobot) -> None:
    inside, ending = asyncio.Event(), asyncio.Event()

    async def session() -> None:
        async with teleoperated(robot, tmp_path, HASTY):
            inside.set()
            await ending.wait()

    task = asyncio.create_task(session())
    await inside.wait()
    before = torques(robot)
    silence(robot, "right_leader")
    ending.set()
    await until_free(robot)
    is_over = task.done()
    await asyncio.wait({task})

    assert before == {1}
    assert not is_over
    assert isinstance(task.exception(), TorqueUnconfirmed)
    assert "the right leader: all servos did not confirm" in str(task.exception())


async def test_every_silent_arm_is_named_and_followers_come_first(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with teleoperated(robot, tmp_path, HASTY):
            silence(robot, "left_leader", "right_follower")
            raise RobotUnreachable("the first error")

    with pytest.raises(RobotUnreachable, match="the first error") as raised:
        await session()

    assert not isinstance(raised.value, TorqueUnconfirmed)
    (note,) = raised.value.__notes__
    assert 0 < note.index("the right follower: ") < note.index("the left leader: ")
    assert note.count("did not confirm that the torque is off") == 2
