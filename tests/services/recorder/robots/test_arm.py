"""One arm: what is checked, written, read and released, in which order."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.arm import SERVO_IDS, calibration_path, clipped, configured_arm, opened_arm
from services.recorder.robots.errors import RobotRefused, RobotUnreachable
from services.recorder.robots.models import JOINTS, ArmPlan
from services.recorder.robots.packets import Instruction, PacketReader
from services.recorder.robots.servo_bus import BusSettings
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.line import Answer, ServoLine
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot, simulated_servos
from services.recorder.simulation.terminals import ServoTerminal
from tests.services.recorder.arms import IMPATIENT, PATIENT, faulty, places, plan

PORT = "left_follower"


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


def torques(robot: SimulatedRobot, port_name: str = PORT) -> set[int]:
    return {robot.servo(port_name, joint).get(registers.TORQUE_ENABLE) for joint in JOINTS}


class RecordingLine(ServoLine):
    """A bus that remembers what was written to it: id, address and data."""

    def __init__(self) -> None:
        super().__init__(simulated_servos(PORT))
        self.writes: list[tuple[int, int, int]] = []
        self._own_reader = PacketReader()

    def received(self, data: bytes, now_s: float) -> list[Answer]:
        for packet in self._own_reader.feed(data):
            if packet.code == Instruction.WRITE:
                self.writes.append((packet.servo_id, packet.parameters[0], int.from_bytes(packet.parameters[1:], "little")))
        return super().received(data, now_s)


class AlarmingLine(RecordingLine):
    """A bus whose servos are overloaded from the first torque on."""

    def received(self, data: bytes, now_s: float) -> list[Answer]:
        before = len(self.writes)
        answers = super().received(data, now_s)
        if any(address == registers.TORQUE_ENABLE.address and value for _, address, value in self.writes[before:]):
            for servo in self.servos.values():
                servo.alarms = 32
            return super(RecordingLine, self).received(data, now_s)
        return answers


async def test_follower_is_configured_in_the_order_of_lerobot(tmp_path: Path, robot: SimulatedRobot) -> None:
    line = RecordingLine()
    terminal = ServoTerminal(line)
    own = ArmPlan(kind="robot", prefix="left_", type="so100_follower", port=terminal.path, id="sim_left")
    async with configured_arm(own, environ=places(tmp_path), settings=PATIENT):
        written = list(line.writes)
    terminal.close()

    off = [(i, register.address, 0) for i in SERVO_IDS for register in (registers.TORQUE_ENABLE, registers.LOCK)]
    speeds = [(i, address, value) for i in SERVO_IDS for address, value in ((7, 0), (85, 254), (41, 254))]
    modes = [(i, address, value) for i in SERVO_IDS for address, value in ((33, 0), (21, 16), (23, 0), (22, 32))]
    on = [(i, register.address, 1) for i in SERVO_IDS for register in (registers.TORQUE_ENABLE, registers.LOCK)]
    assert written == off + speeds + modes + on
    assert line.writes[len(written) :] == off


async def test_leader_stays_free_and_moves(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with configured_arm(plan(robot, "left_leader"), environ=places(tmp_path), settings=PATIENT) as arm:
        first = await arm.positions()
        assert torques(robot, "left_leader") == {0}
        assert robot.servo("left_leader", "gripper").get(registers.P_COEFFICIENT) == 32
        for _ in range(500):
            if await arm.positions() != first:
                break
        assert await arm.positions() != first


async def test_follower_goes_where_it_is_sent_with_lag(tmp_path: Path, robot: SimulatedRobot) -> None:
    goals = (10.0, -20.0, 30.0, -40.0, 50.0, 60.0)
    async with configured_arm(plan(robot), environ=places(tmp_path), settings=PATIENT) as arm:
        assert torques(robot) == {1}
        before = await arm.positions()
        sent = await arm.send(goals)
        at_once = await arm.positions()
        async with asyncio.timeout(10):
            while max(abs(now - goal) for now, goal in zip(await arm.positions(), goals, strict=True)) > 0.3:
                assert torques(robot) == {1}

    assert sent == goals
    assert max(abs(now - old) for now, old in zip(at_once, before, strict=True)) < 40
    assert torques(robot) == {0}


async def test_goals_are_clipped_to_the_allowed_step(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with configured_arm(plan(robot, max_relative_target=2.5), environ=places(tmp_path), settings=PATIENT) as arm:
        present = await arm.positions()
        sent = await arm.send([value + 50 for value in present])
        limited = await arm.send([value - 1 for value in present], present=present)

    assert sent == pytest.approx([value + 2.5 for value in present], abs=0.3)
    assert limited == pytest.approx([value - 1 for value in present])
    assert clipped([5.0, -5.0], [0.0, 0.0], [1.0, 2.0]) == (1.0, -2.0)


async def test_degrees_are_for_the_body_and_not_for_the_gripper(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with configured_arm(plan(robot, use_degrees=True), environ=places(tmp_path), settings=PATIENT) as arm:
        await arm.send((0.0, 0.0, 0.0, 0.0, 0.0, 50.0))
        goals = await arm.bus.sync_read(SERVO_IDS, registers.GOAL_POSITION)

    assert goals == {1: 2047, 2: 2047, 3: 2047, 4: 2047, 5: 2047, 6: 2047}


class Trouble(Exception):
    """What a session may die of."""


async def test_torque_ends_when_the_block_raises(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with configured_arm(plan(robot), environ=places(tmp_path), settings=PATIENT):
            assert torques(robot) == {1}
            raise Trouble

    with pytest.raises(Trouble):
        await session()

    assert torques(robot) == {0}


async def test_torque_ends_although_the_release_itself_is_cancelled(tmp_path: Path, robot: SimulatedRobot) -> None:
    inside, leaving = asyncio.Event(), asyncio.Event()
    environ = places(tmp_path)

    async def session() -> None:
        async with configured_arm(plan(robot), environ=environ, settings=PATIENT):
            try:
                inside.set()
                await asyncio.Event().wait()
            finally:
                leaving.set()

    task = asyncio.ensure_future(session())
    await inside.wait()
    assert torques(robot) == {1}
    robot.terminals[PORT].line.faults = Faults(slow=5)
    task.cancel()
    await leaving.wait()
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert torques(robot) == {0}
    assert {robot.servo(PORT, joint).get(registers.LOCK) for joint in JOINTS} == {0}  # every servo was waited for


async def test_torque_ends_when_configuring_fails_half_way(tmp_path: Path) -> None:
    line = AlarmingLine()
    terminal = ServoTerminal(line)
    own = ArmPlan(kind="robot", prefix="left_", type="so100_follower", port=terminal.path, id="sim_left")
    message = await refused(own, places(tmp_path), PATIENT)
    terminal.close()

    assert "servo 1 (left_shoulder_pan) reports overload at Torque_Enable" in message
    assert (1, registers.TORQUE_ENABLE.address, 1) in line.writes
    assert {servo.get(registers.TORQUE_ENABLE) for servo in line.servos.values()} == {0}


async def test_a_servo_that_cannot_confirm_is_named_and_the_others_are_free(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with opened_arm(plan(robot), settings=BusSettings(margin_s=0.03, num_retries=3)) as arm:
            await arm.bus.sync_write(dict.fromkeys(SERVO_IDS, 1), registers.TORQUE_ENABLE)
            assert set((await arm.bus.sync_read(SERVO_IDS, registers.TORQUE_ENABLE)).values()) == {1}
            arm.is_touched = True
            robot.terminals[PORT].line.faults = Faults(missing=2)

    with pytest.raises(RobotUnreachable, match=r"the left follower: servo 2 \(left_shoulder_lift\) did not confirm that the torque is off"):
        await session()

    assert [robot.servo(PORT, joint).get(registers.TORQUE_ENABLE) for joint in JOINTS] == [0, 1, 0, 0, 0, 0]


async def test_the_first_error_is_raised_and_the_silence_noted(tmp_path: Path, robot: SimulatedRobot) -> None:
    async def session() -> None:
        async with opened_arm(plan(robot), settings=IMPATIENT) as arm:
            arm.is_touched = True
            robot.terminals[PORT].line.faults = Faults(missing=6)
            raise Trouble

    with pytest.raises(Trouble) as raised:
        await session()

    assert "left_gripper" in raised.value.__notes__[0]


async def test_torque_may_be_kept_on_purpose(tmp_path: Path, robot: SimulatedRobot) -> None:
    async with configured_arm(plan(robot, disable_torque_on_disconnect=False), environ=places(tmp_path), settings=PATIENT):
        pass

    assert torques(robot) == {1}


async def refused(arm_plan: ArmPlan, environ: dict[str, str], settings: BusSettings = IMPATIENT) -> str:
    with pytest.raises((RobotRefused, RobotUnreachable)) as raised:
        async with configured_arm(arm_plan, environ=environ, settings=settings):
            pass
    return str(raised.value)


async def test_missing_servos_are_listed(tmp_path: Path) -> None:
    with faulty(PORT, missing=4) as robot:
        message = await refused(plan(robot), places(tmp_path))

    assert "no answer from servo 4 (left_wrist_flex), expected six servos: check the cable" in message


async def test_a_bus_without_servos_points_at_the_power_supply(tmp_path: Path) -> None:
    with faulty(PORT, silence=0.0) as robot:
        message = await refused(plan(robot), places(tmp_path), BusSettings(margin_s=0.02, num_retries=0))

    assert "servo 1 (left_shoulder_pan), servo 2" in message
    assert "power supply" in message


async def test_another_model_is_refused(tmp_path: Path, robot: SimulatedRobot) -> None:
    robot.servo(PORT, "elbow_flex").set(registers.MODEL_NUMBER, 2825)
    message = await refused(plan(robot), places(tmp_path), PATIENT)

    assert "servo 3 (left_elbow_flex) is model 2825, expected 777 (STS3215)" in message
    assert torques(robot) == {0}


async def test_different_firmware_is_refused(tmp_path: Path, robot: SimulatedRobot) -> None:
    robot.servo(PORT, "gripper").set(registers.FIRMWARE_MINOR, 9)
    message = await refused(plan(robot), places(tmp_path), PATIENT)

    assert "firmware differs" in message
    assert "servo 6 (left_gripper) has 3.9" in message


async def test_servos_with_another_calibration_are_refused_before_anything_is_written(tmp_path: Path, robot: SimulatedRobot) -> None:
    servo = robot.servo(PORT, "wrist_flex")
    servo.set(registers.HOMING_OFFSET, 12)
    message = await refused(plan(robot), places(tmp_path), PATIENT)

    assert "wrist_flex: the servos hold another calibration than the file of sim_left: two ports may be swapped" in message
    assert f"if it is, run `{plan(robot).calibrate_command}`" in message
    assert servo.get(registers.LOCK) == 1


async def test_no_calibration_is_refused_before_the_port_is_opened(tmp_path: Path) -> None:
    own = ArmPlan(kind="robot", prefix="", type="so100_follower", port="/dev/none", id="new")
    message = await refused(own, {"HF_LEROBOT_CALIBRATION": str(tmp_path)})

    assert (
        "the arm has no calibration: run `episodeflow calibrate --robot.type=so100_follower --robot.port=/dev/none --robot.id=new`"
        in message
    )


def test_a_calibration_folder_of_ones_own_comes_first(tmp_path: Path) -> None:
    own = ArmPlan(kind="robot", prefix="", type="so100_follower", port="/p", id=None, calibration_dir=str(tmp_path))

    assert calibration_path(own, {"HF_LEROBOT_CALIBRATION": "/other"}) == tmp_path / "None.json"
