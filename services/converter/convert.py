"""The story of one episode, told in order: read, align, judge, encode with statistics, write, manifest.

Synchronous; the service and the command run it in a process of its own. What comes out is a complete one-episode
LeRobot v2.1 dataset (a part) in a folder of the caller's; nobody sees it before the caller renames it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter import plan as planning
from services.converter import quality, raw
from services.converter.alignment import Aligner, AlignmentPlan, Rows, concatenated
from services.converter.assignment import Assignment, Converted
from services.converter.encoding import CameraJob, EncodedCamera, encode_cameras
from services.converter.raw import ArmSamples, CameraFrames
from services.converter.report import AlignmentReport, Timing, alignment_report
from shared.config import StrategyConfig
from shared.errors import BadRaw, DiskFull
from shared.lerobot import layout
from shared.lerobot.part import CameraVideo, write_part

MANIFEST_VERSION = 1
UNKNOWN_TASK = "unspecified"


class _Aligned(msgspec.Struct, frozen=True, kw_only=True):
    plan: AlignmentPlan
    rows: Rows
    frames: dict[str, CameraFrames]
    report: AlignmentReport


def convert(assignment: Assignment, on_frames: Callable[[int], None] = lambda _: None) -> Converted:
    """Convert one raw episode.

    Args:
        assignment: what, and where to.
        on_frames: called, from several threads, with how many more camera frames are encoded.

    Raises:
        BadRaw: a file is not what it should be, or no row can be made.
        Filtered: a configured filter holds the episode back.
        BadConfig: the encoder refuses its settings.
        DiskFull: no room for the part.
    """
    with _disk_errors(assignment.folder):
        assignment.folder.mkdir()
        task = _task(assignment)
        aligned = _align(assignment)
        cameras = _encode(assignment, aligned, on_frames)
        manifest = _manifest(assignment, aligned, cameras)
        _write(assignment, aligned, cameras, manifest=manifest, task=task)
    num_rows = len(aligned.rows.times_us)
    return Converted(
        frames=num_rows,
        duration_s=num_rows / aligned.plan.fps,
        num_bytes=sum(path.stat().st_size for path in assignment.folder.rglob("*") if path.is_file()),
        digest=str(manifest["digest"]),
        report=aligned.report,
    )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"{folder.parent}: the disk is full; make room, the episode is tried again") from error
        raise


def _align(assignment: Assignment) -> _Aligned:
    config = assignment.config
    found = {camera.name: raw.list_frames(assignment.raw, camera.name) for camera in config.cameras}
    frames = {camera: listed for camera, listed in found.items() if listed is not None}
    quality.check_cameras(list(frames), list(found), require_all=config.filtering.require_all_cameras)
    if config.base_camera.name not in frames:
        raise BadRaw(f"images/{config.base_camera.name}", "has no frames, but it is the base camera that gives the timeline")
    plan = planning.alignment_plan(config, list(frames), joints_fps=_joints_fps(assignment))
    timings = {stream: Timing() for stream in (*plan.arms, *plan.cameras)}
    rows = concatenated([_no_rows(plan, config.robot.joints_per_arm), *_row_blocks(assignment, plan, frames, timings)])
    _judge(config, plan, rows, frames, timings)
    return _Aligned(plan=plan, rows=rows, frames=frames, report=alignment_report(rows, plan, timings))


def _joints_fps(assignment: Assignment) -> int:
    """Return the configured joint rate, or the measured one: the median over all arms, rounded to a whole Hz."""
    configured = assignment.config.alignment.joints_fps
    if configured != "auto":
        return configured
    intervals = []
    for arm in assignment.config.robot.arms:
        timing = Timing()
        with closing(ArmSamples(assignment.raw, arm, assignment.config.robot.joints_per_arm)) as samples:
            for times_us, _ in samples.batches():
                timing.add(times_us)
        intervals.append(timing.intervals_us)
    every = np.concatenate(intervals)
    if not len(every):
        raise BadRaw("joints", "has one sample per arm, so its rate cannot be measured; set alignment.joints_fps")
    return max(1, round(1e6 / float(np.median(every))))


def _row_blocks(assignment: Assignment, plan: AlignmentPlan, frames: dict[str, CameraFrames], timings: dict[str, Timing]) -> Iterator[Rows]:
    """Yield the rows as the arms' files are read side by side, always the one that is behind in time."""
    aligner = Aligner(plan)
    for camera, listed in frames.items():
        aligner.push_frames(camera, listed.times_us)
        aligner.close(camera)
        timings[camera].add(listed.times_us)
    with ExitStack() as files:
        batches = {}
        for arm in assignment.config.robot.arms:
            samples = files.enter_context(closing(ArmSamples(assignment.raw, arm, assignment.config.robot.joints_per_arm)))
            batches[arm.name] = samples.batches()
        while batches:
            behind = min(batches, key=lambda arm: timings[arm].last_us)
            batch = next(batches[behind], None)
            if batch is None:
                del batches[behind]
                aligner.close(behind)
            else:
                aligner.push_samples(behind, *batch)
                timings[behind].add(batch[0])
            rows = aligner.take()
            if rows is not None:
                yield rows


def _no_rows(plan: AlignmentPlan, num_joints: int) -> Rows:
    """Return the block of an episode without rows, so that its report can still say why."""
    empty = np.empty(0, np.int64)
    streams = (*plan.arms, *plan.cameras)
    return Rows(
        times_us=empty,
        frame_indices=dict.fromkeys(plan.cameras, empty),
        states={arm: np.empty((0, num_joints), np.float32) for arm in plan.arms},
        actions={arm: np.empty((0, plan.chunk_size, num_joints), np.float32) for arm in plan.arms},
        errors_us=dict.fromkeys(streams, empty),
        num_dropped=0,
        num_held=dict.fromkeys(streams, 0),
    )


def _judge(config: StrategyConfig, plan: AlignmentPlan, rows: Rows, frames: dict[str, CameraFrames], timings: dict[str, Timing]) -> None:
    start_us = max(timing.first_us for timing in timings.values())
    end_us = min(timing.last_us for timing in timings.values())
    duration_s = max(0, end_us - start_us) / 1e6
    if end_us < start_us:
        late = max(timings, key=lambda stream: timings[stream].first_us)
        early = min(timings, key=lambda stream: timings[stream].last_us)
        raise BadRaw(late, f"begins at {start_us} us, after {early} has ended at {end_us} us: the streams have no time in common")
    quality.check_filters(config.filtering, num_rows=len(rows.times_us), duration_s=duration_s, timings=timings)
    if not len(rows.times_us):
        raise BadRaw("episode", f"gives no row: {rows.num_dropped} rows were dropped because a stream was beyond its tolerance")
    if plan.timeline == "base":
        base_us = frames[plan.base_camera].times_us
        quality.check_rate(base_us[(base_us >= start_us) & (base_us <= end_us)], camera=plan.base_camera, fps=plan.fps)
    quality.check_length(len(rows.times_us), plan.fps)


def _encode(assignment: Assignment, aligned: _Aligned, on_frames: Callable[[int], None]) -> dict[str, EncodedCamera]:
    jobs = {}
    for camera, frames in aligned.frames.items():
        path = assignment.folder / layout.video_path(layout.camera_key(camera), 0)
        path.parent.mkdir(parents=True)
        jobs[camera] = CameraJob(
            frames=frames,
            indices=aligned.rows.frame_indices[camera],
            path=path,
            fps=aligned.plan.fps,
            video=assignment.config.video,
        )
    return encode_cameras(jobs, on_frames)


def _columns(config: StrategyConfig, rows: Rows) -> dict[str, NDArray[np.float32]]:
    """Return the columns of the dataset: action (N, A*J) or (N, K, A*J), states (N, A*J)."""
    action = np.concatenate([rows.actions[arm] for arm in planning.action_arms(config)], axis=2)
    chunked = config.alignment.strategy == "chunking"
    states = {key: np.concatenate([rows.states[arm] for arm in arms], axis=1) for key, arms in planning.state_arms(config).items()}
    return {planning.ACTION_KEY: action if chunked else action[:, 0], **states}


def _names(config: StrategyConfig) -> dict[str, list[str]]:
    arms_by_key = {planning.ACTION_KEY: planning.action_arms(config), **planning.state_arms(config)}
    return {key: planning.joint_names(arms, config.robot.joints_per_arm) for key, arms in arms_by_key.items()}


def input_digest(assignment: Assignment) -> str:
    """Return the digest a conversion would have, from its inputs alone: equal digests mean equal bytes.

    Raises:
        BadRaw: a file is missing or misnamed.
    """
    listed = [raw.list_frames(assignment.raw, camera.name) for camera in assignment.config.cameras]
    digests = {
        frames.camera: {name.decode(): raw.file_digest(frames.folder / name.decode()) for name in frames.names}
        for frames in listed
        if frames is not None
    }
    return planning.digest(_made_by(assignment, digests))


def _made_by(assignment: Assignment, frame_digests: dict[str, dict[str, str]]) -> dict[str, object]:
    """Return everything that decides the bytes of a part: raw files by SHA-256, recipe, software, task."""
    names = sorted(arm.file_name for arm in assignment.config.robot.arms)
    missing = [name for name in names if not (assignment.raw.joints / name).is_file()]
    if missing:
        raise BadRaw(f"joints/{missing[0]}", "is missing")
    joints = {name: raw.file_digest(assignment.raw.joints / name) for name in names}
    return {
        "task": _task(assignment),
        "recipe": planning.recipe(assignment.config),
        "software": {
            "episodeflow": version("episodeflow"),
            "numpy": version("numpy"),
            "av": av.__version__,
            "libraries": {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())},
        },
        "raw": {"joints": joints} | {f"images/{camera}": frame_digests[camera] for camera in sorted(frame_digests)},
    }


def _manifest(assignment: Assignment, aligned: _Aligned, cameras: dict[str, EncodedCamera]) -> dict[str, object]:
    """Say what made the part; no wall clock, no host: the same raw episode and recipe give the same bytes."""
    made_by = _made_by(assignment, {camera: encoded.digests for camera, encoded in cameras.items()})
    keys = [layout.camera_key(camera) for camera in cameras]
    return {
        "version": MANIFEST_VERSION,
        "source": assignment.source,
        "episode_id": assignment.episode_id,
        "strategy": assignment.config.alignment.strategy,
        "digest": planning.digest(made_by),
        "alignment": msgspec.to_builtins(aligned.report),
        "videos": {key: raw.file_digest(assignment.folder / layout.video_path(key, 0)) for key in keys},
        **made_by,
    }


def _task(assignment: Assignment) -> str:
    """Return the instruction: the assignment's, the raw episode's, or the task folder's name of the local layout."""
    above = assignment.raw.joints.parent
    of_folder = above.name if above.parent.name == "joints" else None
    return assignment.task or raw.read_metadata(assignment.raw).task or of_folder or UNKNOWN_TASK


def _write(assignment: Assignment, aligned: _Aligned, cameras: dict[str, EncodedCamera], *, manifest: dict[str, object], task: str) -> None:
    config = assignment.config
    write_part(
        assignment.folder,
        columns=_columns(config, aligned.rows),
        names=_names(config),
        cameras={
            camera: CameraVideo(
                height=encoded.height_px, width=encoded.width_px, codec=config.video.codec, pix_fmt="yuv420p", stats=encoded.stats.stats()
            )
            for camera, encoded in cameras.items()
        },
        fps=aligned.plan.fps,
        task=task,
        robot_type=config.robot.type,
        manifest=manifest,
    )
