"""Every filter holds back exactly what lies beyond its bound, and says both numbers."""

from __future__ import annotations

import numpy as np
import pytest

from services.converter.quality import check_cameras, check_filters, check_length, check_rate
from services.converter.report import Timing
from shared.config import FilteringConfig
from shared.errors import BadRaw, Filtered
from shared.lerobot import rows
from shared.lerobot.part import max_num_frames


def timing(*times_us: int) -> Timing:
    result = Timing()
    result.add(np.array(times_us, np.int64))
    return result


def verdict(filtering: FilteringConfig, *, num_rows: int = 100, duration_s: float = 10.0, gap_us: int = 40_000) -> str | None:
    timings = {"arm": timing(0, 4000), "cam": timing(0, gap_us)}
    try:
        check_filters(filtering, num_rows=num_rows, duration_s=duration_s, timings=timings)
    except Filtered as held_back:
        return str(held_back)
    return None


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [(1.999, "all streams overlap for 1.999 s, filtering.min_duration_sec is 2"), (2.0, None), (2.001, None)],
)
def test_min_duration_is_inclusive(duration_s: float, expected: str | None) -> None:
    assert verdict(FilteringConfig(min_duration_sec=2.0), duration_s=duration_s) == expected


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [(1.999, None), (2.0, None), (2.001, "all streams overlap for 2.001 s, filtering.max_duration_sec is 2")],
)
def test_max_duration_is_inclusive(duration_s: float, expected: str | None) -> None:
    assert verdict(FilteringConfig(max_duration_sec=2.0), duration_s=duration_s) == expected


@pytest.mark.parametrize(("num_rows", "expected"), [(49, "alignment made 49 rows, filtering.min_frames is 50"), (50, None), (51, None)])
def test_min_frames_is_inclusive(num_rows: int, expected: str | None) -> None:
    assert verdict(FilteringConfig(min_frames=50), num_rows=num_rows) == expected


@pytest.mark.parametrize(
    ("gap_us", "expected"),
    [(199_900, None), (200_000, None), (200_100, "cam has a gap of 200.1 ms, filtering.max_timestamp_gap_ms is 200")],
)
def test_the_longest_gap_of_any_stream_counts(gap_us: int, expected: str | None) -> None:
    assert verdict(FilteringConfig(max_timestamp_gap_ms=200), gap_us=gap_us) == expected


def test_filters_that_are_not_set_hold_nothing_back() -> None:
    assert verdict(FilteringConfig(), num_rows=0, duration_s=0.0, gap_us=10**9) is None


@pytest.mark.parametrize(
    ("present", "require_all", "missing"),
    [(["a", "b"], True, None), (["a"], True, "b"), (["a"], False, None), ([], False, "a, b"), ([], True, "a, b")],
)
def test_missing_cameras_hold_an_episode_back_where_all_are_required_or_none_is_left(
    present: list[str], require_all: bool, missing: str | None
) -> None:
    found = None
    try:
        check_cameras(present, ["a", "b"], require_all=require_all)
    except Filtered as held_back:
        found = str(held_back)

    expected = missing and f"camera {missing} has no frames; record it again, or set filtering.require_all_cameras: false"
    assert found == expected


def base_times(rate_hz: float) -> np.ndarray:
    return np.round(1e9 + np.arange(500) * 1e6 / rate_hz).astype(np.int64)


@pytest.mark.parametrize("deviation", [-0.049, 0.0, 0.049])
def test_a_rate_up_to_five_percent_off_is_accepted(deviation: float) -> None:
    assert check_rate(base_times(30 * (1 + deviation)), camera="cam", fps=30) is None


@pytest.mark.parametrize(("deviation", "rate"), [(-0.051, "28.47"), (0.051, "31.53")])
def test_a_rate_more_than_five_percent_off_is_refused_with_both_rates_and_the_remedy(deviation: float, rate: str) -> None:
    with pytest.raises(BadRaw) as caught:
        check_rate(base_times(30 * (1 + deviation)), camera="cam", fps=30)

    assert str(caught.value) == (
        f"images/cam: came at {rate} frames per second, but one row per frame at fps 30 would stretch time by 5.1%; "
        "set alignment.timeline: uniform, or the true rate as video.fps and target_fps"
    )


@pytest.mark.parametrize("num_frames", [0, 1])
def test_too_few_frames_have_no_rate_to_refuse(num_frames: int) -> None:
    assert check_rate(base_times(30)[:num_frames], camera="cam", fps=25) is None


@pytest.mark.parametrize("fps", [25, 30, 50])
def test_the_length_limit_is_the_one_of_the_dataset_format(fps: int) -> None:
    limit = max_num_frames(fps)
    timestamps = rows.exact_timestamps(limit, fps).astype(np.float32)
    check_length(limit, fps)

    assert rows.spacing_error_index(timestamps, fps) is None
    with pytest.raises(BadRaw) as caught:
        check_length(limit + 1, fps)
    assert str(caught.value) == (
        f"episode: has {limit + 1} rows; LeRobot's float32 timestamps carry at most {limit} rows ({limit / fps:.0f} s) at fps {fps}: "
        "split the recording, or choose another fps"
    )
