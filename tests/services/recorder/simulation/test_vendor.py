"""The vendor's own library, over a real pseudo-terminal, agrees with our packets and our simulated servos."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import scservo_sdk

from services.recorder.robots import registers
from services.recorder.robots.arm import SERVO_IDS
from services.recorder.robots.servo_bus import ServoBus
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.arms import PATIENT

PORT = "left_follower"
Found = Any
"""What a call of the vendor's library returns; it has no types."""


@pytest.fixture
async def robot() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


class PatientPort(scservo_sdk.PortHandler):  # type: ignore[misc]  # the library has no types
    """The vendor's port with a time-out that a busy machine keeps; LeRobot replaces it for the same reason."""

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802 - the vendor's name
        self.setPacketTimeoutMillis(500)


@contextmanager
def vendor_port(path: str) -> Iterator[Any]:
    port = PatientPort(path)
    assert port.openPort()
    try:
        yield port
    finally:
        port.closePort()


async def by_vendor(robot: SimulatedRobot, question: Callable[[Any, Any], Found]) -> Found:
    """Ask through the vendor's library in a thread, while this loop serves the simulated robot."""

    def asked() -> Found:
        with vendor_port(robot.ports[PORT]) as port:
            return question(port, scservo_sdk.PacketHandler(0))

    return await asyncio.to_thread(asked)


async def test_ping_finds_model_777(robot: SimulatedRobot) -> None:
    assert await by_vendor(robot, lambda port, packets: packets.ping(port, 4)) == (777, scservo_sdk.COMM_SUCCESS, 0)


async def test_reads_see_what_the_servo_holds_and_alarms(robot: SimulatedRobot) -> None:
    servo = robot.servo(PORT, "gripper")
    servo.set(registers.GOAL_POSITION, 1234)
    servo.alarms = 32

    assert await by_vendor(robot, lambda port, packets: packets.read2ByteTxRx(port, 6, 42)) == (1234, scservo_sdk.COMM_SUCCESS, 32)


async def test_writes_reach_the_servo(robot: SimulatedRobot) -> None:
    found = await by_vendor(robot, lambda port, packets: packets.write1ByteTxRx(port, 2, 41, 77))

    assert found == (scservo_sdk.COMM_SUCCESS, 0)
    assert robot.servo(PORT, "shoulder_lift").get(registers.ACCELERATION) == 77


async def test_sync_read_and_sync_write_agree_with_ours(robot: SimulatedRobot) -> None:
    goals = {servo_id: 1000 + servo_id for servo_id in SERVO_IDS}

    def question(port: Any, packets: Any) -> Found:
        write = scservo_sdk.GroupSyncWrite(port, packets, 42, 2)
        for servo_id, goal in goals.items():
            write.addParam(servo_id, list(goal.to_bytes(2, "little")))
        read = scservo_sdk.GroupSyncRead(port, packets, 42, 2)
        for servo_id in goals:
            read.addParam(servo_id)
        results = write.txPacket(), read.txRxPacket()
        return results, {servo_id: read.getData(servo_id, 42, 2) for servo_id in goals}

    results, theirs = await by_vendor(robot, question)
    bus = await ServoBus.open(robot.ports[PORT], joints={}, settings=PATIENT)
    ours = await bus.sync_read(SERVO_IDS, registers.GOAL_POSITION)
    await bus.close()

    assert results == (scservo_sdk.COMM_SUCCESS, scservo_sdk.COMM_SUCCESS)
    assert theirs == ours == goals


async def test_damage_is_damage_for_the_vendor_too(robot: SimulatedRobot) -> None:
    robot.terminals[PORT].line.faults = Faults(corrupt=1)
    _, result, _ = await by_vendor(robot, lambda port, packets: packets.read1ByteTxRx(port, 1, 55))

    assert result == scservo_sdk.COMM_RX_CORRUPT
