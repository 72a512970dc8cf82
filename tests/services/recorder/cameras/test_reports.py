"""Counting the frames of an episode."""

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.cameras.reports import CameraReport, FrameTally

GAPS_US = st.lists(st.integers(1, 200_000), max_size=40)


def report_of(times_us: list[int], *, fps: int = 30, start_us: int = 0, end_us: int) -> CameraReport:
    tally = FrameTally(fps=fps, start_us=start_us)
    for time_us in times_us:
        tally.add(time_us)
    return tally.report(end_us=end_us, num_lost=0, num_damaged=0, num_repeated=0, problem=None)


@given(gaps_us=GAPS_US, tail_us=st.integers(0, 200_000))
def test_report_agrees_with_a_plain_count(gaps_us: list[int], tail_us: int) -> None:
    times_us = [1_000_000 + sum(gaps_us[: index + 1]) for index in range(len(gaps_us))]
    end_us = 1_000_000 + sum(gaps_us) + tail_us

    found = report_of(times_us, start_us=1_000_000, end_us=end_us)

    assert found.num_frames == len(gaps_us)
    assert (found.first_us, found.last_us) == ((times_us[0], times_us[-1]) if times_us else (None, None))
    assert found.num_late == sum(gap_us > 50_000 for gap_us in gaps_us[1:])
    assert found.longest_gap_ms == max([*gaps_us, tail_us]) / 1000


def test_a_camera_that_stops_leaves_a_gap_up_to_the_end() -> None:
    found = report_of([0, 33_000, 66_000], end_us=5_066_000)

    assert found.longest_gap_ms == 5000
    assert found.measured_fps == 30.303


def test_an_episode_without_a_frame_is_one_gap() -> None:
    assert report_of([], start_us=1, end_us=2_000_001).longest_gap_ms == 2000
