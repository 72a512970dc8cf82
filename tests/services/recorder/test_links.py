"""One arm in the loop: what a failure costs, and when it is told."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.recorder.links import ArmLink, Patience, Side
from services.recorder.robots.arm import Arm
from services.recorder.robots.errors import RobotUnreachable
from services.recorder.robots.models import JOINTS
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.loops import connected

FORGIVING = Patience(answer_s=0.02, report_s=60, silence_s=60)
STRICT = Patience(answer_s=0.02, report_s=0, silence_s=0)


@asynccontextmanager
async def arms(folder: Path, **options: object) -> AsyncIterator[tuple[SimulatedRobot, Arm, Arm]]:
    """Give the left follower and its leader."""
    with simulated_robot() as simulated:
        async with connected(simulated, folder, **options) as (robot, teleop):
            yield simulated, robot.arms[0], teleop.arms[0]
            for terminal in simulated.terminals.values():
                terminal.line.faults = Faults()


async def test_a_sample_is_of_the_time_between_question_and_answer(tmp_path: Path) -> None:
    async with arms(tmp_path) as (simulated, follower, _):
        simulated.terminals["left_follower"].line.faults = Faults(slow=40)
        link = ArmLink(follower, name="left_slave", patience=Patience(answer_s=5), on_problem=print)
        before_s = time.monotonic()
        sample = await link.sample()
        after_s = time.monotonic()

    assert sample is not None
    assert before_s + 0.02 <= sample.time_s <= after_s - 0.02
    assert len(sample.values) == len(JOINTS)
    assert link.last == sample


async def test_a_failure_is_counted_and_the_next_answer_forgives_it(tmp_path: Path) -> None:
    problems: list[str] = []
    async with arms(tmp_path) as (simulated, follower, _):
        link = ArmLink(follower, name="left_slave", patience=FORGIVING, on_problem=problems.append)
        simulated.terminals["left_follower"].line.faults = Faults(corrupt=1)
        found = await link.sample()
        simulated.terminals["left_follower"].line.faults = Faults()
        healed = await link.sample()

    assert found is None
    assert healed is not None
    assert (link.num_samples, link.num_errors, link.is_reported, problems) == (1, 1, False, [])


async def test_each_silence_is_told_once(tmp_path: Path) -> None:
    problems: list[str] = []
    async with arms(tmp_path) as (simulated, follower, _):
        told_at_once = Patience(answer_s=0.02, report_s=0, silence_s=60)
        link = ArmLink(follower, name="left_slave", patience=told_at_once, on_problem=problems.append)
        for corrupt in (1, 1, 0, 1):
            simulated.terminals["left_follower"].line.faults = Faults(corrupt=corrupt)
            await link.sample()

    assert len(problems) == 2
    assert all("left_gripper" in problem for problem in problems)


async def test_a_silence_beyond_patience_raises_after_it_was_told(tmp_path: Path) -> None:
    problems: list[str] = []
    async with arms(tmp_path) as (simulated, follower, _):
        simulated.terminals["left_follower"].line.faults = Faults(silence=0.0)
        link = ArmLink(follower, name="left_slave", patience=STRICT, on_problem=problems.append)
        with pytest.raises(RobotUnreachable, match="the recording ends"):
            await link.sample()

    assert len(problems) == 1


async def test_a_port_that_is_gone_raises_whatever_the_patience(tmp_path: Path) -> None:
    problems: list[str] = []

    async def session() -> None:
        async with arms(tmp_path) as (simulated, follower, _):
            link = ArmLink(follower, name="left_slave", patience=FORGIVING, on_problem=problems.append)
            simulated.terminals["left_follower"].close()
            async with asyncio.timeout(20):
                await link.sample()

    with pytest.raises(RobotUnreachable, match="the port is gone"):
        await session()

    assert len(problems) == 1


@pytest.mark.parametrize(("limit", "is_sent"), [(None, True), (5.0, False)])
async def test_only_a_limited_arm_needs_to_say_where_it_is_before_it_is_sent(tmp_path: Path, limit: float | None, is_sent: bool) -> None:
    async with arms(tmp_path, max_relative_target=limit) as (simulated, follower, leader):
        side = Side(
            leader=ArmLink(leader, name="left_master", patience=Patience(answer_s=5), on_problem=print),
            follower=ArmLink(follower, name="left_slave", patience=FORGIVING, on_problem=print),
        )
        simulated.terminals["left_follower"].line.faults = Faults(corrupt=1)
        step = await side.step()

    assert step.measured is None
    assert (step.sent is not None) is is_sent
    assert side.follower.num_errors == 1  # it was not asked a second time, with more patience than a tick has
    assert step.is_clipped is False


async def test_a_side_sends_what_its_leader_shows_at_the_time_of_the_leader(tmp_path: Path) -> None:
    async with arms(tmp_path) as (_, follower, leader):
        calm = Patience(answer_s=5)
        side = Side(
            leader=ArmLink(leader, name="left_master", patience=calm, on_problem=print),
            follower=ArmLink(follower, name="left_slave", patience=calm, on_problem=print),
        )
        step = await side.step()

    assert step.sent == side.leader.last
    assert step.measured == side.follower.last
