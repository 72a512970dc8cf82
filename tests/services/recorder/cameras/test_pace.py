"""Whether a camera keeps its pace."""

import pytest

from services.recorder.cameras.pace import Pace, silence_limit_s


def test_rate_is_that_of_the_last_seconds() -> None:
    pace = Pace(1 / 30)
    for tick in range(300):
        pace.add(100 + tick / 10 if tick < 100 else 110 + (tick - 100) / 25)

    assert pace.status(118.0).fps == pytest.approx(25, abs=0.1)
    assert pace.status(118.0).is_delivering


def test_a_camera_is_silent_after_a_second_and_a_slow_one_after_five_periods() -> None:
    assert silence_limit_s(1 / 30) == 1.0
    assert silence_limit_s(1 / 2) == 2.5
    pace = Pace(1 / 30)
    pace.add(50.0)

    assert not pace.is_silent(51.0)
    assert pace.is_silent(51.01)
    assert not pace.status(51.01).is_delivering


def test_nobody_is_late_before_the_first_frame() -> None:
    assert not Pace(1 / 30).is_silent(1000.0)
    assert not Pace(1 / 30).status(1000.0).is_delivering
