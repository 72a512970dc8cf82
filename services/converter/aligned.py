"""From the files of a raw episode to rows that are worth encoding: read, judge, align.

The arms' times are read first, alone: they say where the streams overlap and whether the episode is worth more. Then
each arm is read once more, batch by batch, one arm after the other; memory grows with the rows alone.
"""

from __future__ import annotations

from contextlib import closing

import msgspec
import numpy as np

from services.converter import plan as planning
from services.converter import quality, raw
from services.converter.alignment import AlignmentPlan, ArmAligner, IntArray, Rows, Taken, combined, row_times, shown_frames
from services.converter.assignment import Assignment
from services.converter.raw import ArmSamples, CameraFrames
from services.converter.report import AlignmentReport, Timing, alignment_report
from shared.config import StrategyConfig
from shared.episode import ArmConfig
from shared.errors import BadRaw

_EARLIEST_LIKELY_US = 946_684_800_000_000
"""2000-01-01: an earlier time is likely of another unit."""


class Aligned(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of an episode, the rules that made them, the frames they point into, and the report on time."""

    plan: AlignmentPlan
    rows: Rows
    frames: dict[str, CameraFrames]
    report: AlignmentReport


def align(assignment: Assignment) -> Aligned:
    """Read and align a raw episode, and refuse it if it should not be encoded.

    Raises:
        BadRaw: a file is not what it should be, or no row can be made.
        Filtered: a configured filter holds the episode back.
    """
    config = assignment.config
    frames = _frames(assignment)
    timings = {arm.name: _timing(assignment, arm) for arm in config.robot.arms} | {
        camera: Timing.of(listed.times_us) for camera, listed in frames.items()
    }
    plan = planning.alignment_plan(config, list(frames), joints_fps=_joints_fps(config, timings))
    start_us, end_us = _overlap(timings)
    base_us = frames[plan.base_camera].times_us
    quality.check_span(end_us - int(base_us[0]) if plan.timeline == "uniform" else 0, fps=plan.fps)
    times_us = row_times(plan, base_us, start_us=start_us, end_us=end_us)
    num_joints = len(plan.action_arms) * config.robot.joints_per_arm
    quality.check_actions(len(times_us), num_steps=plan.chunk_size, num_joints=num_joints)
    shown = {camera: shown_frames(plan, listed.times_us, times_us) for camera, listed in frames.items()}
    taken = {arm.name: _taken(assignment, plan, arm, times_us) for arm in config.robot.arms}
    rows = combined(plan, times_us, shown, taken)
    quality.check_filters(config.filtering, num_rows=len(rows.times_us), duration_s=(end_us - start_us) / 1e6, timings=timings)
    _check_rows(plan, times_us, rows)
    return Aligned(plan=plan, rows=rows, frames=frames, report=alignment_report(rows, plan, timings))


def _frames(assignment: Assignment) -> dict[str, CameraFrames]:
    config = assignment.config
    found = {camera.name: raw.list_frames(assignment.raw, camera.name) for camera in config.cameras}
    frames = {camera: listed for camera, listed in found.items() if listed is not None}
    quality.check_cameras(list(frames), list(found), require_all=config.filtering.require_all_cameras)
    if config.base_camera.name not in frames:
        raise BadRaw(f"images/{config.base_camera.name}", "has no frames, but it is the base camera that gives the timeline")
    return frames


def _samples(assignment: Assignment, arm: ArmConfig) -> closing[ArmSamples]:
    return closing(ArmSamples(assignment.raw, arm, assignment.config.robot.joints_per_arm))


def _timing(assignment: Assignment, arm: ArmConfig) -> Timing:
    timing = Timing()
    with _samples(assignment, arm) as samples:
        for times_us in samples.times():
            timing.add(times_us)
    return timing


def _joints_fps(config: StrategyConfig, timings: dict[str, Timing]) -> int:
    """Return the configured joint rate, or the measured one: the median over all arms, rounded to a whole Hz."""
    configured = config.alignment.joints_fps
    if configured != "auto":
        return configured
    every = np.concatenate([timings[arm.name].intervals_us for arm in config.robot.arms])
    if not len(every):
        raise BadRaw("joints", "has one sample per arm, so its rate cannot be measured; set alignment.joints_fps")
    return max(1, round(1e6 / float(np.median(every))))


def _overlap(timings: dict[str, Timing]) -> tuple[int, int]:
    """Return the first and last microsecond of the time that all streams have in common."""
    starts_last = max(timings, key=lambda stream: timings[stream].first_us)
    ends_first = min(timings, key=lambda stream: timings[stream].last_us)
    start_us, end_us = timings[starts_last].first_us, timings[ends_first].last_us
    if end_us < start_us:
        hint = f"; are the timestamps of {ends_first} microseconds?" if end_us < _EARLIEST_LIKELY_US else ""
        raise BadRaw(
            starts_last, f"begins at {start_us} us, after {ends_first} has ended at {end_us} us: the streams have no time in common{hint}"
        )
    return start_us, end_us


def _taken(assignment: Assignment, plan: AlignmentPlan, arm: ArmConfig, times_us: IntArray) -> Taken:
    """Read an arm and return what the rows take of it; portions go straight to their place in arrays of the final size."""
    aligner = ArmAligner(plan, arm.name)
    aligner.ask(times_us)
    rows = _blank(plan, arm, num_rows=len(times_us), num_joints=assignment.config.robot.joints_per_arm)
    begin = 0
    with _samples(assignment, arm) as samples:
        for batch in samples.batches():
            aligner.push(*batch)
            begin = _laid_down(rows, aligner.take(), begin)
    aligner.close()
    _laid_down(rows, aligner.take(), begin)
    return rows


def _blank(plan: AlignmentPlan, arm: ArmConfig, *, num_rows: int, num_joints: int) -> Taken:
    is_chunked = plan.strategy == "chunking" and arm.name in plan.action_arms
    return Taken(
        np.empty((num_rows, num_joints), np.float32),
        np.empty((num_rows, plan.chunk_size, num_joints), np.float32) if is_chunked else None,
        np.empty(num_rows, np.int64),
        np.empty(num_rows, np.bool_),
    )


def _laid_down(rows: Taken, portion: Taken | None, begin: int) -> int:
    """Copy a portion into its place and return where the next one begins."""
    if portion is None:
        return begin
    end = begin + len(portion.states)
    rows.states[begin:end], rows.errors_us[begin:end], rows.in_gap[begin:end] = portion.states, portion.errors_us, portion.in_gap
    if rows.chunks is not None:
        rows.chunks[begin:end] = portion.chunks
    return end


def _check_rows(plan: AlignmentPlan, times_us: IntArray, rows: Rows) -> None:
    if not len(times_us):
        raise BadRaw(f"images/{plan.base_camera}", "has no frame in the time that all streams have in common, so there is no row")
    if not len(rows.times_us):
        raise BadRaw("episode", f"gives no row: {rows.num_dropped} rows were dropped because a stream was beyond its tolerance")
    if plan.timeline == "base":
        quality.check_rate(times_us, camera=plan.base_camera, fps=plan.fps)
    quality.check_length(len(rows.times_us), plan.fps)
