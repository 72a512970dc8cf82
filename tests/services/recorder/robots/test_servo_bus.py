"""The servo bus over real pseudo-terminals."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.arm import SERVO_IDS
from services.recorder.robots.errors import RobotRefused, RobotUnreachable
from services.recorder.robots.models import JOINTS
from services.recorder.robots.servo_bus import BusSettings, ServoBus
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.arms import IMPATIENT, PATIENT, faulty

PORT = "left_follower"
NAMES = {servo_id: joint for joint, servo_id in JOINTS.items()}


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


async def opened(robot: SimulatedRobot, settings: BusSettings = PATIENT) -> ServoBus:
    return await ServoBus.open(robot.ports[PORT], joints=NAMES, settings=settings)


async def until(condition: object, *, within_s: float = 5.0) -> None:
    """Wait until a condition holds; fail when it does not come true."""
    assert callable(condition)
    deadline_s = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline_s
        await asyncio.sleep(0.002)


async def test_registers_are_read_and_written_one_by_one_and_together(robot: SimulatedRobot) -> None:
    bus = await opened(robot)

    assert await bus.read(1, registers.MODEL_NUMBER) == 777
    await bus.write(1, registers.LOCK, 0)
    await bus.write(1, registers.HOMING_OFFSET, -700)
    assert await bus.read(1, registers.HOMING_OFFSET) == -700
    await bus.sync_write({1: 1500, 2: -3}, registers.GOAL_POSITION)
    assert await bus.sync_read([2, 1], registers.GOAL_POSITION) == {2: -3, 1: 1500}
    await bus.close()


async def test_questions_of_several_tasks_are_asked_one_after_the_other(robot: SimulatedRobot) -> None:
    bus = await opened(robot)
    found = await asyncio.gather(*(bus.read(servo_id, registers.SERVO_ID) for servo_id in SERVO_IDS * 5))
    await bus.close()

    assert found == list(SERVO_IDS) * 5
    assert bus.counts.num_retries == 0


async def test_damaged_replies_are_asked_for_again(robot: SimulatedRobot) -> None:
    robot.terminals[PORT].line.faults = Faults(corrupt=10)
    bus = await opened(robot, BusSettings(margin_s=0.03, num_retries=4))
    found = [await bus.sync_read(SERVO_IDS, registers.MODEL_NUMBER) for _ in range(6)]
    await bus.close()

    assert found == [dict.fromkeys(SERVO_IDS, 777)] * 6
    assert bus.counts.num_retries >= 2
    assert bus.counts.num_damaged_bytes > 0


async def test_a_damaged_answer_ends_its_question_long_before_the_deadline(robot: SimulatedRobot) -> None:
    robot.terminals[PORT].line.faults = Faults(corrupt=6)
    bus = await opened(robot, BusSettings(margin_s=60.0, num_retries=0))
    async with asyncio.timeout(20):
        with pytest.raises(RobotUnreachable, match="damaged bytes came back"):
            await bus.sync_read(SERVO_IDS, registers.MODEL_NUMBER)
        robot.terminals[PORT].line.faults = Faults()
        found = await bus.sync_read(SERVO_IDS, registers.MODEL_NUMBER)
    await bus.close()

    assert found == dict.fromkeys(SERVO_IDS, 777)


async def test_a_silent_servo_is_named_with_port_joint_and_what_to_do() -> None:
    with faulty(PORT, missing=3) as robot:
        bus = await opened(robot, IMPATIENT)
        with pytest.raises(
            RobotUnreachable, match=rf"{robot.ports[PORT]}: servo 3 \(elbow_flex\) did not answer when reading Present_Position"
        ):
            await bus.sync_read(SERVO_IDS, registers.PRESENT_POSITION)
        with pytest.raises(RobotUnreachable, match=r"servo 3 \(elbow_flex\).*nothing came back.*check the cable"):
            await bus.read(3, registers.LOCK)
        await bus.close()

    assert bus.counts.num_failures == 2


async def test_damage_is_told_apart_from_silence() -> None:
    with faulty(PORT, corrupt=1) as robot:
        bus = await opened(robot, IMPATIENT)
        with pytest.raises(RobotUnreachable, match="damaged bytes came back"):
            await bus.read(1, registers.LOCK)
        await bus.close()


async def test_a_late_reply_is_never_the_answer_to_a_later_question(robot: SimulatedRobot) -> None:
    bus = await opened(robot, BusSettings(margin_s=0.06, num_retries=0))
    robot.terminals[PORT].line.faults = Faults(slow=90)
    with pytest.raises(RobotUnreachable):
        await bus.read(1, registers.PRESENT_VOLTAGE)
    robot.terminals[PORT].line.faults = Faults()
    found = await bus.read(1, registers.PRESENT_TEMPERATURE)
    await bus.close()

    assert found == 31
    assert bus.counts.num_stale_bytes == 7


async def test_a_cancelled_question_leaves_the_bus_in_order(robot: SimulatedRobot) -> None:
    bus = await opened(robot)
    robot.terminals[PORT].line.faults = Faults(slow=60)
    asking = asyncio.ensure_future(bus.read(1, registers.PRESENT_VOLTAGE))
    await until(lambda: bus.counts.num_questions == 1)
    asking.cancel()
    await asyncio.wait({asking})
    robot.terminals[PORT].line.faults = Faults()

    assert asking.cancelled()
    assert await bus.read(1, registers.PRESENT_TEMPERATURE) == 31
    await bus.close()


async def test_an_adapter_that_echoes_changes_nothing() -> None:
    with faulty(PORT, echo=True) as robot:
        bus = await opened(robot, BusSettings(margin_s=0.3, echo_margin_s=0.5))
        await bus.write(2, registers.ACCELERATION, 7)
        await bus.sync_write({2: 1000}, registers.GOAL_POSITION)
        found = await bus.sync_read([2], registers.GOAL_POSITION)

        assert found == {2: 1000}
        assert await bus.read(2, registers.ACCELERATION) == 7
        assert await bus.is_there(2)
        robot.terminals[PORT].line.faults = Faults(echo=True, missing=2)
        assert not await bus.is_there(2)
        await bus.close()


async def test_an_alarm_is_named_but_does_not_keep_the_torque_on(robot: SimulatedRobot) -> None:
    bus = await opened(robot)
    robot.servo(PORT, "gripper").alarms = 32
    with pytest.raises(RobotUnreachable, match=r"servo 6 \(gripper\) reports overload at Torque_Enable"):
        await bus.write(6, registers.TORQUE_ENABLE, 1)
    await bus.write(6, registers.TORQUE_ENABLE, 0, is_alarm_ignored=True)

    assert await bus.sync_read([6], registers.TORQUE_ENABLE) == {6: 0}
    assert await bus.is_there(6)
    await bus.close()


async def test_an_unplugged_port_is_noticed_at_once_and_closes(robot: SimulatedRobot) -> None:
    bus = await opened(robot)
    robot.terminals[PORT].line.faults = Faults(silence=0.0)
    asking = asyncio.ensure_future(bus.read(1, registers.LOCK))
    await until(lambda: bus.counts.num_questions == 1)
    robot.terminals[PORT].close()

    with pytest.raises(RobotUnreachable, match="the port is gone"):
        await asking
    with pytest.raises(RobotUnreachable, match="the port is gone"):
        await bus.sync_write({1: 1}, registers.GOAL_POSITION)
    assert not bus.is_open
    await bus.close()


async def test_a_missing_port_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RobotUnreachable, match="ttyNONE: there is no such port: plug in"):
        await ServoBus.open(str(tmp_path / "ttyNONE"), joints=NAMES)


async def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()

    with pytest.raises(RobotRefused, match="file: cannot be opened as a serial port"):
        await ServoBus.open(str(path), joints=NAMES)


async def test_a_port_in_use_is_refused_and_free_again_after_closing(robot: SimulatedRobot) -> None:
    bus = await opened(robot)
    with pytest.raises(RobotRefused, match="another program has the port"):
        await opened(robot)
    await bus.close()
    again = await opened(robot)

    assert await again.is_there(1)
    await again.close()


async def test_open_files_do_not_grow(robot: SimulatedRobot) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    for _ in range(3):
        bus = await opened(robot)
        await bus.close()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
