"""One simulated servo: registers, locks, offsets, movement."""

import math

import pytest

from services.recorder.robots import registers
from services.recorder.robots.packets import BROADCAST_ID, Instruction, Packet
from services.recorder.robots.registers import Register
from services.recorder.simulation.servo import MAX_SPEED_STEPS_PER_S, Servo


def write(servo: Servo, register: Register, value: int, *, servo_id: int = 1) -> Packet | None:
    return servo.answered(Packet(servo_id, Instruction.WRITE, bytes((register.address,)) + register.encoded(value)))


@pytest.mark.parametrize(("lock", "torque", "held"), [(0, 0, 5), (1, 0, 250), (0, 1, 250), (1, 1, 250)])
def test_eeprom_takes_a_write_only_without_lock_and_torque(lock: int, torque: int, held: int) -> None:
    servo = Servo(1)
    write(servo, registers.LOCK, lock)
    write(servo, registers.TORQUE_ENABLE, torque)

    assert write(servo, registers.RETURN_DELAY_TIME, 5) == Packet(1, 0)
    assert servo.get(registers.RETURN_DELAY_TIME) == held


def test_present_position_is_the_shaft_less_the_homing_offset() -> None:
    servo = Servo(1, shaft=100)
    write(servo, registers.LOCK, 0)
    write(servo, registers.HOMING_OFFSET, 103)

    assert servo.get(registers.PRESENT_POSITION) == -3
    write(servo, registers.HOMING_OFFSET, -1900)
    assert servo.get(registers.PRESENT_POSITION) == 2000


def test_what_is_read_only_stays() -> None:
    servo = Servo(1)
    write(servo, registers.PRESENT_POSITION, 5)
    write(servo, registers.MODEL_NUMBER, 5)

    assert (servo.get(registers.PRESENT_POSITION), servo.get(registers.MODEL_NUMBER)) == (2047, 777)


def test_with_torque_the_shaft_lags_behind_the_goal_and_arrives() -> None:
    servo = Servo(1, shaft=2000)
    servo.advance(0.0)
    write(servo, registers.TORQUE_ENABLE, 1)
    write(servo, registers.GOAL_POSITION, 3000)
    seen = []
    for tick in range(1, 101):
        servo.advance(tick * 0.01)
        seen.append(servo.get(registers.PRESENT_POSITION))

    assert 2000 < seen[0] <= 2000 + MAX_SPEED_STEPS_PER_S * 0.01
    assert seen == sorted(seen)
    assert seen[-1] == 3000


def test_torque_alone_moves_nothing_and_limits_hold() -> None:
    servo = Servo(1, shaft=2000)
    servo.set(registers.MAX_POSITION_LIMIT, 2500)
    servo.advance(0.0)
    write(servo, registers.TORQUE_ENABLE, 1)
    servo.advance(1.0)
    assert servo.get(registers.PRESENT_POSITION) == 2000
    write(servo, registers.GOAL_POSITION, 4000)
    servo.advance(3.0)
    servo.advance(6.0)

    assert servo.get(registers.PRESENT_POSITION) == 2500


def test_without_torque_a_hand_moves_the_shaft_smoothly() -> None:
    servo = Servo(1, shaft=2047, hand=lambda now_s: 2047 + 500 * math.sin(now_s))
    steps = []
    before = servo.get(registers.PRESENT_POSITION)
    for tick in range(400):
        servo.advance(tick * 0.01)
        now = servo.get(registers.PRESENT_POSITION)
        steps.append(abs(now - before))
        before = now

    assert max(steps) <= 7
    assert sum(steps) > 800


def test_a_registered_write_waits_for_the_action() -> None:
    servo = Servo(1)
    servo.answered(Packet(1, Instruction.REG_WRITE, bytes((registers.ACCELERATION.address, 9))))
    before = servo.get(registers.ACCELERATION)
    reply = servo.answered(Packet(BROADCAST_ID, Instruction.ACTION))

    assert (before, servo.get(registers.ACCELERATION), reply) == (0, 9, None)


def test_a_broadcast_is_obeyed_and_not_confirmed() -> None:
    servo = Servo(1)

    assert write(servo, registers.TORQUE_ENABLE, 1, servo_id=BROADCAST_ID) is None
    assert servo.get(registers.TORQUE_ENABLE) == 1


@pytest.mark.parametrize("packet", [Packet(1, 0x77), Packet(1, Instruction.READ), Packet(1, Instruction.WRITE)])
def test_what_makes_no_sense_gets_no_reply(packet: Packet) -> None:
    assert Servo(1).answered(packet) is None
