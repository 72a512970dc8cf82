"""Encoder steps to the numbers of a dataset and back, exactly as LeRobot computes them. Pure.

    r raw steps after the homing offset, [a, b] the joint's calibrated range, m = (a + b) / 2

    M100_100   v = (r - a) / (b - a) * 200 - 100    r clamped to [a, b]; drive mode 1 negates
    ZERO_100   v = (r - a) / (b - a) * 100          r clamped to [a, b]; drive mode 1: 100 - v
    DEGREES    v = (r - m) * 360 / 4095             no clamp, drive mode ignored

The way back clamps v (not in degrees) and truncates towards zero with ``int()``.

Source: LeRobot 0.3.3, ``MotorsBus._normalize`` and ``_unnormalize``.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Annotated

import msgspec

from services.recorder.robots.registers import MAX_POSITION


class JointCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """One joint, in encoder steps: offset that centres it, and the range it was moved through."""

    id: int
    drive_mode: Annotated[int, msgspec.Meta(ge=0, le=1)]
    homing_offset: Annotated[int, msgspec.Meta(ge=-2047, le=2047)]
    range_min: Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]
    range_max: Annotated[int, msgspec.Meta(ge=0, le=MAX_POSITION)]


Calibration = dict[str, JointCalibration]
"""By joint, in the order of the servo ids."""


class Unit(Enum):
    """What a joint's number means."""

    M100_100 = "-100..100"
    ZERO_100 = "0..100"
    DEGREES = "degrees"


def normalised(raw: int, joint: JointCalibration, unit: Unit) -> float:
    """Return a raw position in the unit.

    Args:
        raw: encoder steps after the homing offset.
        joint: its calibration, range_min below range_max.
        unit: of the result.
    """
    lowest, highest = joint.range_min, joint.range_max
    if unit is Unit.DEGREES:
        return (raw - (lowest + highest) / 2) * 360 / MAX_POSITION
    clamped = min(highest, max(lowest, raw))
    if unit is Unit.M100_100:
        value = (((clamped - lowest) / (highest - lowest)) * 200) - 100
        return -value if joint.drive_mode else value
    value = ((clamped - lowest) / (highest - lowest)) * 100
    return 100 - value if joint.drive_mode else value


def unnormalised(value: float, joint: JointCalibration, unit: Unit) -> int:
    """Return a position in encoder steps, truncated towards zero.

    Args:
        value: in the unit.
        joint: its calibration.
        unit: of the value.

    Raises:
        ValueError: the value is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"a joint cannot go to {value}")
    lowest, highest = joint.range_min, joint.range_max
    if unit is Unit.DEGREES:
        return int((value * MAX_POSITION / 360) + (lowest + highest) / 2)
    if unit is Unit.M100_100:
        clamped = min(100.0, max(-100.0, -value if joint.drive_mode else value))
        return int(((clamped + 100) / 200) * (highest - lowest) + lowest)
    clamped = min(100.0, max(0.0, 100 - value if joint.drive_mode else value))
    return int((clamped / 100) * (highest - lowest) + lowest)
