"""Ticks, nearest indices and windows against brute force; the buffer forgets only what nobody needs."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.converter.timelines import JointBuffer, latest_indices, nearest_indices, tick_us, window_aggregate

sorted_times = st.sets(st.integers(0, 60), min_size=1, max_size=40).map(lambda times: np.array(sorted(times), np.int64))
targets = st.lists(st.integers(-10, 70), max_size=20).map(lambda times: np.array(times, np.int64))


@given(st.integers(0, 10**9), st.integers(1, 1000))
def test_a_tick_is_index_over_rate_rounded_to_the_nearest_microsecond(index: int, rate_hz: int) -> None:
    exact = Fraction(index * 1_000_000, rate_hz)

    assert abs(tick_us(index, rate_hz) - exact) <= Fraction(1, 2)
    assert tick_us(np.array([index]), rate_hz).tolist() == [tick_us(index, rate_hz)]


@given(sorted_times, targets)
def test_the_nearest_time_wins_and_ties_go_to_the_earlier(times: np.ndarray, wanted: np.ndarray) -> None:
    expected = [min(range(len(times)), key=lambda index: (abs(int(times[index]) - target), index)) for target in wanted.tolist()]

    assert nearest_indices(times, wanted).tolist() == expected


def test_a_target_in_the_middle_takes_the_earlier_time() -> None:
    assert nearest_indices(np.array([0, 2, 10]), np.array([1, 6, 11])).tolist() == [0, 1, 2]


@given(sorted_times, targets)
def test_the_latest_time_is_never_after_the_target_unless_there_is_none(times: np.ndarray, wanted: np.ndarray) -> None:
    expected = [max((index for index, time in enumerate(times) if time <= target), default=0) for target in wanted]

    assert latest_indices(times, wanted).tolist() == expected


@given(sorted_times, targets, st.integers(0, 60), st.sampled_from(["mean", "median"]))
def test_a_window_holds_every_sample_within_its_half_width(times: np.ndarray, wanted: np.ndarray, window_us: int, aggregation: str) -> None:
    values = np.stack([np.sin(times), times.astype(float)], axis=1)
    found, counts = window_aggregate(times, values, wanted, window_us=window_us, aggregation=aggregation)  # type: ignore[arg-type]

    for row, target in enumerate(wanted):
        inside = values[np.abs(times - target) <= window_us]
        assert counts[row] == len(inside)
        if len(inside):
            np.testing.assert_allclose(found[row], getattr(np, aggregation)(inside, axis=0), rtol=1e-12, atol=1e-12)


def test_a_wide_median_is_gathered_in_portions_with_the_same_result() -> None:
    times = np.arange(6000, dtype=np.int64)
    values = np.random.default_rng(1).normal(size=(6000, 3))
    wanted = np.arange(0, 6000, 10)
    found, _ = window_aggregate(times, values, wanted, window_us=2000, aggregation="median")

    expected = [np.median(values[max(0, at - 2000) : at + 2001], axis=0) for at in wanted]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(sorted_times, st.integers(0, 300), st.integers(0, 50))
def test_the_buffer_keeps_what_rows_after_a_time_can_need(times: np.ndarray, time_us: int, reach_us: int) -> None:
    buffer = JointBuffer()
    half = len(times) // 2
    buffer.push(times[:half], times[:half, None].astype(float))
    buffer.push(times[half:], times[half:, None].astype(float))
    buffer.forget_before(time_us, reach_us=reach_us)

    needed = [
        time for index, time in enumerate(times) if time >= time_us - reach_us or index == latest_indices(times, np.array([time_us]))[0]
    ]
    assert set(needed) <= set(buffer.times_us.tolist())
    assert buffer.values[:, 0].tolist() == buffer.times_us.tolist()
    assert (buffer.first_us, buffer.last_us) == (times[0], times[-1])
    assert len(buffer.times_us) <= len(needed) + 1


@pytest.mark.parametrize("num_pushes", [0, 1])
def test_an_empty_push_changes_nothing(num_pushes: int) -> None:
    buffer = JointBuffer()
    for _ in range(num_pushes):
        buffer.push(np.empty(0, np.int64), np.empty((0, 2)))

    assert buffer.first_us is None
