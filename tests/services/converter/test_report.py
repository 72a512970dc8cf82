"""Faults that a test puts into an episode come back from the alignment report with their true sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.converter.alignment import AlignmentPlan, ArmAligner, combined, row_times, shown_frames
from services.converter.report import AlignmentReport, Timing, alignment_report, spread

START_US = 1_700_000_000_000_000
ARM_US = START_US + 4000 * np.arange(2501)
BASE_US = START_US + 40_000 * np.arange(250)


def plan(**changes: object) -> AlignmentPlan:
    rules: dict[str, object] = {
        "strategy": "nearest",
        "timeline": "base",
        "fps": 25,
        "arms": ("arm",),
        "action_arms": ("arm",),
        "cameras": ("base", "side"),
        "base_camera": "base",
        "tolerance_us": 20_000,
        "image_tolerance_us": 40_000,
    }
    return AlignmentPlan(**(rules | changes))


def report(*, arm: np.ndarray = ARM_US, base: np.ndarray = BASE_US, side: np.ndarray = BASE_US, **changes: object) -> AlignmentReport:
    rules = plan(**changes)
    timings = {"arm": Timing.of(arm), "base": Timing.of(base), "side": Timing.of(side)}
    start_us, end_us = max(timing.first_us for timing in timings.values()), min(timing.last_us for timing in timings.values())
    times_us = row_times(rules, base, start_us=start_us, end_us=end_us)
    aligner = ArmAligner(rules, "arm")
    aligner.ask(times_us)
    aligner.push(arm, np.zeros((len(arm), 1)))
    aligner.close()
    taken = aligner.take()
    assert taken is not None
    shown = {"base": shown_frames(rules, base, times_us), "side": shown_frames(rules, side, times_us)}
    rows = combined(rules, times_us, shown, {"arm": taken})
    return alignment_report(rows, rules, timings)


def test_a_perfect_episode_has_no_error_no_drift_and_no_jitter() -> None:
    found = report()

    assert (found.num_rows, found.num_dropped, found.first_us, found.last_us) == (250, 0, int(BASE_US[0]), int(BASE_US[-1]))
    assert (found.drift.max_ms, found.worst_error.max_ms, found.streams["side"].jitter.max_ms) == (0, 0, 0)
    assert (found.streams["arm"].num_samples, found.streams["arm"].rate_hz, found.streams["base"].rate_hz) == (2501, 250.0, 25.0)


def test_known_jitter_of_a_camera_is_recovered() -> None:
    jitter = np.where(np.arange(250) % 2, 3000, 0)  # intervals of 43 and 37 ms, median in the middle of them
    found = report(side=BASE_US + jitter).streams["side"]

    assert found.jitter.max_ms == pytest.approx(6, abs=1)
    assert found.error.max_ms == 3
    assert found.error.p50_ms == pytest.approx(1.5, abs=1.5)


def test_dropped_frames_are_counted_exactly() -> None:
    lost = np.arange(5, 245, 32)  # 8 of 250: 3 %
    found = report(side=np.delete(BASE_US, lost))

    side = found.streams["side"]
    assert (side.num_samples, side.num_repeated, side.num_unused) == (250 - len(lost), len(lost), 0)
    assert (side.max_gap_ms, side.error.max_ms) == (80, 40)
    assert found.num_dropped == 0


def test_a_gap_of_a_camera_is_reported_with_its_length_its_place_and_its_rows() -> None:
    side = np.delete(BASE_US, np.arange(100, 104))  # 200 ms from frame 99 to frame 104
    dropped, held = report(side=side), report(side=side, on_gap="hold")

    assert dropped.streams["side"].max_gap_ms == 200
    assert dropped.streams["side"].max_gap_at_us == BASE_US[99]
    assert (dropped.num_dropped, dropped.num_rows) == (2, 248)  # the rows 80 ms away; 40 ms is within tolerance
    assert (held.num_dropped, held.num_rows, held.streams["side"].num_held) == (0, 250, 2)


def test_dropping_rows_shows_as_drift_of_the_rows_after_them() -> None:
    found = report(side=np.delete(BASE_US, np.arange(100, 104)))

    assert found.drift.max_ms == 80


def test_a_gap_of_an_arm_is_reported_and_its_rows_dropped() -> None:
    arm = np.delete(ARM_US, np.flatnonzero(np.abs(ARM_US - BASE_US[100] - 100_000) < 100_000))
    found = report(arm=arm)

    assert (found.streams["arm"].max_gap_ms, found.streams["arm"].max_gap_at_us) == (200, BASE_US[100])
    assert found.num_dropped == 4


def test_a_camera_that_starts_late_shifts_the_first_row_and_nothing_else() -> None:
    found = report(side=BASE_US[1:])

    assert (found.first_us, found.num_rows, found.num_dropped) == (BASE_US[1], 249, 0)
    assert (found.streams["base"].num_unused, found.streams["side"].num_unused, found.worst_error.max_ms) == (1, 0, 0)


def test_a_constant_offset_of_a_camera_is_its_error() -> None:
    found = report(side=BASE_US - 13_000)

    assert (found.streams["side"].error.p50_ms, found.streams["side"].error.max_ms) == (13, 13)


def test_a_slower_clock_shows_as_drift() -> None:
    base = START_US + np.round(40_400 * np.arange(200)).astype(np.int64)  # 1 % slow
    found = report(base=base, side=base)

    assert found.drift.max_ms == pytest.approx(0.4 * 199, abs=0.001)
    assert found.streams["base"].rate_hz == pytest.approx(1e6 / 40_400, abs=0.001)


@given(st.lists(st.integers(1, 10_000_000_000), min_size=2, max_size=40), st.data())
def test_timing_is_the_same_in_any_portions(intervals: list[int], data: st.DataObject) -> None:
    times = START_US + np.cumsum(np.array(intervals, np.int64))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(times) - 1))))
    timing = Timing()
    for portion in np.split(times, cuts):
        timing.add(portion)

    gaps = np.diff(times)
    assert (timing.num_samples, timing.first_us, timing.last_us) == (len(times), times[0], times[-1])
    assert timing.max_gap_us == gaps.max()
    assert timing.report(errors_us=gaps, num_held=0, used=None).max_gap_at_us == times[int(np.argmax(gaps))]
    assert timing.intervals_us.tolist() == np.minimum(gaps, 2**31 - 1).tolist()


def test_a_single_sample_has_no_rate_and_no_gap() -> None:
    timing = Timing()
    timing.add(np.array([START_US]))
    found = timing.report(errors_us=np.array([0]), num_held=0, used=np.array([0, 0]))

    assert (found.rate_hz, found.max_gap_ms, found.max_gap_at_us, found.jitter.max_ms) == (0, 0, START_US, 0)
    assert (found.num_repeated, found.num_unused) == (1, 0)


@given(st.lists(st.integers(-1_000_000, 1_000_000), max_size=30))
def test_a_spread_ignores_signs(differences: list[int]) -> None:
    found = spread(np.array(differences, np.int64))

    magnitudes = sorted(abs(difference) / 1000 for difference in differences) or [0.0]
    assert found.max_ms == pytest.approx(magnitudes[-1], abs=0.001)
    assert magnitudes[0] - 0.001 <= found.p50_ms <= found.p95_ms <= found.max_ms
