"""Calibrating an arm, step by step, as LeRobot does it: a story told to a person at a terminal.

Decides the order of what is asked, measured and written. Everything is written to the servos first and read back, then
to the file. Torque is off throughout: the person moves the arm.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol, TypeVar

from services.recorder.robots import registers
from services.recorder.robots.arm import SERVO_IDS, Arm
from services.recorder.robots.calibration import read_calibration, write_calibration
from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.models import JOINTS, WHOLE_TURN_JOINT
from services.recorder.robots.normalisation import Calibration, JointCalibration
from services.recorder.robots.registers import Register

T = TypeVar("T")
_HALF_TURN = (registers.STEPS_PER_TURN - 1) // 2
_MIN_RANGE_STEPS = 20
"""Less is a hand that trembles, not a joint that was moved through its range."""
_SAMPLE_S = 0.01

Ranges = dict[str, tuple[int, int, int]]
"""Minimum, present position and maximum by joint, in encoder steps."""


class Conversation(Protocol):
    """A person: is told something, is asked for a line, sees the ranges change."""

    def say(self, text: str) -> None:
        """Show a text."""

    async def ask(self, text: str) -> str:
        """Show a text and return the line that the person types."""

    def show(self, ranges: Ranges) -> None:
        """Show the ranges as they are now."""


async def calibrated(arm: Arm, *, path: Path, person: Conversation) -> Calibration:
    """Calibrate the arm with a person's help and write servos and file; or write an existing file to the servos.

    Args:
        arm: open and unchecked.
        path: LeRobot's file of this arm.
        person: at the terminal.

    Raises:
        RobotRefused: another model, a joint that was not moved, or a servo that did not keep what was written.
        RobotUnreachable: a servo does not answer.
    """
    await arm.identify()
    kept = await _kept(arm, path=path, person=person)
    if kept is not None:
        return kept
    await arm.release(num_retries=None)
    await _write_all(arm, registers.OPERATING_MODE, dict.fromkeys(JOINTS, 0))
    await person.ask(f"{arm.plan.prefix or ''}{arm.plan.type}: move the arm to the middle of its range of motion, then press Enter. ")
    offsets = await _homed(arm)
    person.say(f"Move every joint but {WHOLE_TURN_JOINT} through its whole range, one after the other; the positions are being recorded.")
    ranges = await _swept(arm, person)
    calibration = _calibration(arm, offsets, ranges)
    await _write_ranges(arm, calibration)
    write_calibration(path, calibration)
    person.say(f"Calibration saved to {path}")
    return calibration


async def _kept(arm: Arm, *, path: Path, person: Conversation) -> Calibration | None:
    """Return the calibration of the file, written to the servos, if there is one and the person wants it."""
    if not await asyncio.to_thread(path.exists):
        return None
    answer = await person.ask(f"{path} exists: press Enter to write it to the servos, or type c and press Enter to calibrate again. ")
    if answer.strip().lower() == "c":
        return None
    calibration = read_calibration(path, command=arm.plan.calibrate_command)
    await arm.release(num_retries=None)
    await _write_all(arm, registers.HOMING_OFFSET, {joint: found.homing_offset for joint, found in calibration.items()})
    await _write_ranges(arm, calibration)
    person.say(f"The servos hold the calibration of {path}")
    return calibration


async def _homed(arm: Arm) -> dict[str, int]:
    """Make the present position of every joint the middle of a turn, and return the offsets."""
    await _write_all(arm, registers.HOMING_OFFSET, dict.fromkeys(JOINTS, 0))
    await _write_all(arm, registers.MIN_POSITION_LIMIT, dict.fromkeys(JOINTS, 0))
    await _write_all(arm, registers.MAX_POSITION_LIMIT, dict.fromkeys(JOINTS, registers.MAX_POSITION))
    offsets = {joint: position - _HALF_TURN for joint, position in (await arm.raw_positions()).items()}
    for joint, offset in offsets.items():
        if abs(offset) > _HALF_TURN:
            raise RobotRefused(
                f"{arm.bus.port}: {joint} stands at {offset + _HALF_TURN} encoder steps, expected 0 to {2 * _HALF_TURN}: "
                "turn it a little and calibrate again"
            )
    await _write_all(arm, registers.HOMING_OFFSET, offsets)
    return offsets


async def _swept(arm: Arm, person: Conversation) -> Ranges:
    """Record the lowest and highest position of each joint until the person presses Enter."""
    ranges: Ranges = {joint: (position, position, position) for joint, position in (await arm.raw_positions()).items()}
    pressed = asyncio.ensure_future(person.ask("Press Enter when every joint has been at both ends. "))
    try:
        while not await _is_done(pressed, within_s=_SAMPLE_S):
            for joint, position in (await arm.raw_positions()).items():
                lowest, _, highest = ranges[joint]
                ranges[joint] = (min(lowest, position), position, max(highest, position))
            person.show(ranges)
        pressed.result()
    finally:
        pressed.cancel()
    return {**ranges, WHOLE_TURN_JOINT: (0, ranges[WHOLE_TURN_JOINT][1], registers.MAX_POSITION)}


async def _is_done(work: asyncio.Future[T], *, within_s: float) -> bool:
    done, _ = await asyncio.wait({work}, timeout=within_s)
    return bool(done)


def _calibration(arm: Arm, offsets: dict[str, int], ranges: Ranges) -> Calibration:
    still = [joint for joint, (lowest, _, highest) in ranges.items() if highest - lowest < _MIN_RANGE_STEPS]
    if still:
        raise RobotRefused(
            f"{arm.bus.port}: {', '.join(still)} did not move, expected every joint at both ends of its range: calibrate again; "
            "nothing was saved"
        )
    return {
        joint: JointCalibration(
            id=servo_id,
            drive_mode=0,
            homing_offset=offsets[joint],
            range_min=max(0, ranges[joint][0]),
            range_max=min(registers.MAX_POSITION, ranges[joint][2]),
        )
        for joint, servo_id in JOINTS.items()
    }


async def _write_ranges(arm: Arm, calibration: Calibration) -> None:
    await _write_all(arm, registers.MIN_POSITION_LIMIT, {joint: found.range_min for joint, found in calibration.items()})
    await _write_all(arm, registers.MAX_POSITION_LIMIT, {joint: found.range_max for joint, found in calibration.items()})


async def _write_all(arm: Arm, register: Register, values: dict[str, int]) -> None:
    """Write a register of every servo and read it back: a locked EEPROM confirms and keeps its old value."""
    for joint, servo_id in JOINTS.items():
        await arm.bus.write(servo_id, register, values[joint])
    held = await arm.bus.sync_read(SERVO_IDS, register)
    lost = [joint for joint, servo_id in JOINTS.items() if held[servo_id] != values[joint]]
    if lost:
        raise RobotRefused(
            f"{arm.bus.port}: {', '.join(lost)} did not keep {register.name} (expected the written value, found the old one): "
            "switch the arm off and on, and calibrate again"
        )
