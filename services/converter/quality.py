"""Which sound raw episodes are not converted, and why. Pure.

Two kinds: the filters a person configured (``filtering``), and what LeRobot v2.1 cannot carry whatever is configured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.converter.report import Timing
from shared.config import FilteringConfig
from shared.episode import task_problem
from shared.errors import BadRaw, Filtered
from shared.lerobot import rows

MAX_ROWS = 1_000_000
"""Eleven hours at 25 fps. Two samples years apart claim any number of rows: they are counted before they are made."""

MAX_ACTION_BYTES = 512 * 1024 * 1024
"""Actions are held in memory and grow with rows, chunk and joints, which an event may all raise."""

MAX_RATE_DEVIATION = 0.05
"""How far the base camera's measured rate may lie from fps before rows one per frame would stretch time."""


def check_cameras(present: list[str], configured: list[str], *, require_all: bool) -> None:
    """Refuse an episode without the cameras it needs.

    Raises:
        Filtered: a configured camera has no frames and all are required, or none has.
    """
    missing = [camera for camera in configured if camera not in present]
    if missing and (require_all or not present):
        raise Filtered(f"camera {', '.join(missing)} has no frames; record it again, or set filtering.require_all_cameras: false")


def check_filters(filtering: FilteringConfig, *, num_rows: int, duration_s: float, timings: dict[str, Timing]) -> None:
    """Hold back an episode that a configured filter excludes.

    Args:
        filtering: the bounds.
        num_rows: rows that alignment made.
        duration_s: time in which all streams overlap.
        timings: by arm and camera.

    Raises:
        Filtered: with the filter, what was found and the bound.
    """
    bounds = filtering
    if bounds.min_duration_sec is not None and duration_s < bounds.min_duration_sec:
        raise Filtered(f"all streams overlap for {duration_s:.3f} s, filtering.min_duration_sec is {bounds.min_duration_sec:g}")
    if bounds.max_duration_sec is not None and duration_s > bounds.max_duration_sec:
        raise Filtered(f"all streams overlap for {duration_s:.3f} s, filtering.max_duration_sec is {bounds.max_duration_sec:g}")
    if bounds.min_frames is not None and num_rows < bounds.min_frames:
        raise Filtered(f"alignment made {num_rows} rows, filtering.min_frames is {bounds.min_frames}")
    if bounds.max_timestamp_gap_ms is not None:
        worst = max(timings, key=lambda stream: timings[stream].max_gap_us)
        gap_ms = timings[worst].max_gap_us / 1000
        if gap_ms > bounds.max_timestamp_gap_ms:
            raise Filtered(f"{worst} has a gap of {gap_ms:.1f} ms, filtering.max_timestamp_gap_ms is {bounds.max_timestamp_gap_ms:g}")


def check_rate(base_times_us: NDArray[np.int64], *, camera: str, fps: int) -> None:
    """Refuse one row per base frame where the frames came at another rate than fps: time would be stretched.

    Args:
        base_times_us: (S,) times of the base camera's frames inside the overlap.
        camera: its name.
        fps: rows per second of the dataset.

    Raises:
        BadRaw: with both rates and the remedy.
    """
    span_us = int(base_times_us[-1] - base_times_us[0]) if len(base_times_us) > 1 else 0
    if not span_us:
        return
    measured_hz = (len(base_times_us) - 1) * 1e6 / span_us
    if abs(measured_hz - fps) > MAX_RATE_DEVIATION * fps:
        raise BadRaw(
            f"images/{camera}",
            f"came at {measured_hz:.2f} frames per second, but one row per frame at fps {fps} would stretch time by "
            f"{abs(measured_hz / fps - 1):.1%}; set alignment.timeline: uniform, or the true rate as video.fps and target_fps",
        )


def check_task(task: str) -> None:
    """Refuse a text that is no instruction in words; line breaks and tabs are kept.

    Raises:
        BadRaw: it is too long, has a control character, or comes from a name that is not UTF-8.
    """
    problem = task_problem(task)
    if problem:
        raise BadRaw("task", problem)


def check_span(span_us: int, *, fps: int) -> None:
    """Refuse a time so long that its rows cannot be one episode's.

    Raises:
        BadRaw: with its length and the limit.
    """
    num_rows = span_us * fps // 1_000_000
    if num_rows > MAX_ROWS:
        raise BadRaw(
            "episode",
            f"spans {span_us / 1e6:.0f} s, {num_rows} rows at fps {fps}; the limit is {MAX_ROWS} rows: split the recording, "
            "or look for a wrong timestamp",
        )


def check_actions(num_rows: int, *, num_steps: int, num_joints: int) -> None:
    """Refuse actions that do not fit into memory.

    Args:
        num_rows: N.
        num_steps: of one action, K.
        num_joints: of all arms that act.

    Raises:
        BadRaw: with their size and the remedy.
    """
    num_bytes = 4 * num_rows * num_steps * num_joints
    if num_bytes > MAX_ACTION_BYTES:
        raise BadRaw(
            "episode",
            f"has {num_rows} rows of {num_steps} x {num_joints} actions, {num_bytes >> 20} MiB; the limit is {MAX_ACTION_BYTES >> 20} MiB: "
            "lower alignment.chunk_size or video.fps, or split the recording",
        )


def check_length(num_rows: int, fps: int) -> None:
    """Refuse an episode whose float32 timestamps would fail LeRobot's own check.

    Raises:
        BadRaw: with the longest episode LeRobot can load at this rate.
    """
    row = rows.spacing_error_index(rows.exact_timestamps(num_rows, fps).astype(np.float32), fps)
    if row is not None:
        limit = row + 1
        raise BadRaw(
            "episode",
            f"has {num_rows} rows; LeRobot's float32 timestamps carry at most {limit} rows ({limit / fps:.0f} s) at fps {fps}: "
            "split the recording, or choose another fps",
        )
