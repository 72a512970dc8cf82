"""Samples kept while they come."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.joints import ArmTrack

NAMES = ("shoulder_pan", "gripper")
SAMPLES = st.lists(st.tuples(st.integers(1, 10**9), st.floats(-100, 100), st.floats(0, 100)), max_size=50)


@given(samples=SAMPLES, num_reserved=st.integers(1, 60))
def test_what_was_added_comes_back_in_order(samples: list[tuple[int, float, float]], num_reserved: int) -> None:
    track = ArmTrack(NAMES, num_reserved=num_reserved)
    times_us = [int(time_us) for time_us in np.cumsum([step for step, *_ in samples])]
    for time_us, (_, *values) in zip(times_us, samples, strict=True):
        track.add(time_us, values)

    found = track.recording()

    assert found.joint_names == NAMES
    assert (found.times_us.dtype, found.values.dtype, found.values.shape) == (np.int64, np.float64, (len(samples), 2))
    assert found.times_us.tolist() == times_us
    assert found.values.tolist() == [[first, second] for _, first, second in samples]
    assert track.longest_gap_us == max(np.diff(times_us), default=0)


@given(times_us=st.lists(st.integers(0, 20), min_size=1, max_size=30))
def test_times_always_increase(times_us: list[int]) -> None:
    track = ArmTrack(NAMES)
    for time_us in times_us:
        track.add(time_us, (0.0, 0.0))

    assert (np.diff(track.recording().times_us) > 0).all()


def test_the_rate_is_that_of_the_whole_episode() -> None:
    track = ArmTrack(NAMES)
    assert track.rate_hz(span_us=1000) == 0.0
    for index in range(11):
        track.add(1_000_000 + 5000 * index, (1.0, 2.0))

    assert track.rate_hz(span_us=50_000) == 200.0
    assert track.rate_hz(span_us=100_000) == 100.0
    assert (track.first_us, track.last_us) == (1_000_000, 1_050_000)
    assert track.num_samples == 11


def test_what_was_handed_over_is_no_copy_and_does_not_change_with_later_samples() -> None:
    track = ArmTrack(NAMES)
    track.add(1, (1.0, 2.0))
    first = track.recording()
    track.add(2, (3.0, 4.0))
    second = track.recording()

    assert first.times_us.tolist() == [1]
    assert first.values.tolist() == [[1.0, 2.0]]
    assert np.shares_memory(first.times_us, second.times_us)
    assert np.shares_memory(first.values, second.values)


def test_a_sample_of_another_width_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="3 values for 2 joints"):
        ArmTrack(NAMES).add(1, (1.0, 2.0, 3.0))
