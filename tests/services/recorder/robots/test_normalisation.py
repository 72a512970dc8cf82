"""Encoder steps to units and back, as LeRobot computes them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder.robots.normalisation import JointCalibration, Unit, normalised, unnormalised


def joint(lowest: int, highest: int, drive_mode: int = 0) -> JointCalibration:
    return JointCalibration(id=1, drive_mode=drive_mode, homing_offset=0, range_min=lowest, range_max=highest)


joints = st.builds(
    lambda lowest, width, mode: joint(lowest, lowest + width, mode), st.integers(0, 2000), st.integers(50, 2000), st.integers(0, 1)
)


@pytest.mark.parametrize(
    ("raw", "unit", "drive_mode", "value"),
    [
        (758, Unit.M100_100, 0, -100.0),
        (3292, Unit.M100_100, 0, 100.0),
        (2025, Unit.M100_100, 0, 0.0),
        (0, Unit.M100_100, 0, -100.0),  # clamped
        (758, Unit.M100_100, 1, 100.0),
        (758, Unit.ZERO_100, 0, 0.0),
        (3292, Unit.ZERO_100, 1, 0.0),
        (9999, Unit.ZERO_100, 0, 100.0),
        (2025, Unit.DEGREES, 0, 0.0),
        (2025 + 4095, Unit.DEGREES, 1, 360.0),  # not clamped, drive mode ignored
    ],
)
def test_raw_position_in_its_unit(raw: int, unit: Unit, drive_mode: int, value: float) -> None:
    assert normalised(raw, joint(758, 3292, drive_mode), unit) == value


@pytest.mark.parametrize(
    ("value", "unit", "drive_mode", "raw"),
    [
        (-100.0, Unit.M100_100, 0, 758),
        (500.0, Unit.M100_100, 0, 3292),  # clamped
        (-100.0, Unit.M100_100, 1, 3292),
        (0.1, Unit.M100_100, 0, 2026),
        (99.99, Unit.ZERO_100, 0, 3291),  # 3291.7: truncated, not rounded
        (25.0, Unit.ZERO_100, 1, 2658),
        (-90.0, Unit.DEGREES, 1, 1001),  # 1001.25
        (-400.0, Unit.DEGREES, 0, -2525),
    ],
)
def test_value_as_raw_position(value: float, unit: Unit, drive_mode: int, raw: int) -> None:
    assert unnormalised(value, joint(758, 3292, drive_mode), unit) == raw


@settings(deadline=None)
@given(joints, st.sampled_from(Unit), st.data())
def test_there_and_back_is_at_most_one_step_off(calibrated: JointCalibration, unit: Unit, data: st.DataObject) -> None:
    raw = data.draw(st.integers(calibrated.range_min, calibrated.range_max))

    assert 0 <= raw - unnormalised(normalised(raw, calibrated, unit), calibrated, unit) <= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_joint_goes_to_what_is_no_number(value: float) -> None:
    with pytest.raises(ValueError, match="cannot go to"):
        unnormalised(value, joint(0, 4095), Unit.M100_100)
