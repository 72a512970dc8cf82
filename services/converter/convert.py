"""The story of one episode, told in order: read, align, judge, encode with statistics, write, manifest.

Synchronous; the service and the command run it in a process of its own. What comes out is a complete one-episode
LeRobot v2.1 dataset (a part) in a folder of the caller's; nobody sees it before the caller renames it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter import memory, quality, raw, video
from services.converter import plan as planning
from services.converter.aligned import Aligned, align
from services.converter.alignment import Rows
from services.converter.assignment import Assignment, Converted
from services.converter.encoding import CameraJob, EncodedCamera, encode_cameras
from shared.config import StrategyConfig
from shared.digests import document_digest
from shared.episode import METADATA_FILE
from shared.errors import BadRaw, DiskFull
from shared.lerobot import layout
from shared.lerobot.disk import Disk
from shared.lerobot.part import CameraVideo, write_part
from shared.lerobot.provenance import rows_digest, sealed
from shared.version import VERSION

MANIFEST_VERSION = 1
UNKNOWN_TASK = "unspecified"


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
        video.check_settings(assignment.config.video)
        task = _task(assignment)
        aligned = align(assignment)
        memory.return_freed()
        cameras = _encode(assignment, aligned, on_frames)
        memory.return_freed()
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
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise DiskFull(f"{folder.parent}: no room for the dataset ({error.strerror}); make room, the episode is tried again") from error
        raise


def _encode(assignment: Assignment, aligned: Aligned, on_frames: Callable[[int], None]) -> dict[str, EncodedCamera]:
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
    chunked = config.alignment.strategy == "chunking"
    actions = [rows.chunks[arm] if chunked else rows.states[arm] for arm in planning.action_arms(config)]
    states = {key: np.concatenate([rows.states[arm] for arm in arms], axis=1) for key, arms in planning.state_arms(config).items()}
    return {planning.ACTION_KEY: np.concatenate(actions, axis=-1), **states}


def _names(config: StrategyConfig) -> dict[str, list[str]]:
    arms_by_key = {planning.ACTION_KEY: planning.action_arms(config), **planning.state_arms(config)}
    return {key: planning.joint_names(config, arms) for key, arms in arms_by_key.items()}


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
    return document_digest(_made_by(assignment, digests))


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
            "episodeflow": VERSION,
            "numpy": np.__version__,
            "pyarrow": raw.PYARROW_VERSION,
            **video.software(),
        },
        "raw": {"joints": joints} | {f"images/{camera}": frame_digests[camera] for camera in sorted(frame_digests)},
    }


def _manifest(assignment: Assignment, aligned: Aligned, cameras: dict[str, EncodedCamera]) -> dict[str, object]:
    """Say what made the part; no wall clock, no host: the same raw episode and recipe give the same bytes."""
    made_by = _made_by(assignment, {camera: encoded.digests for camera, encoded in cameras.items()})
    keys = [layout.camera_key(camera) for camera in cameras]
    metadata = assignment.raw.joints / METADATA_FILE
    return sealed(
        {
            "version": MANIFEST_VERSION,
            "source": assignment.source,
            "episode_id": assignment.episode_id,
            "strategy": assignment.config.alignment.strategy,
            "digest": document_digest(made_by),
            "alignment": msgspec.to_builtins(aligned.report),
            "videos": {key: raw.file_digest(assignment.folder / layout.video_path(key, 0)) for key in keys},
            "rows": rows_digest(_columns(assignment.config, aligned.rows)),
            **made_by,
            # Beside what decides the bytes: of the metadata only the task does, but it is a raw file like the others.
            "metadata": {METADATA_FILE: raw.file_digest(metadata)} if metadata.is_file() else {},
        }
    )


def _task(assignment: Assignment) -> str:
    """Return the instruction: the assignment's, the raw episode's, or the task folder's name of the local layout."""
    above = assignment.raw.joints.parent
    of_folder = above.name if above.parent.name == "joints" else None
    task = assignment.task or raw.read_metadata(assignment.raw).task or of_folder or UNKNOWN_TASK
    quality.check_task(task)
    return task


def _write(assignment: Assignment, aligned: Aligned, cameras: dict[str, EncodedCamera], *, manifest: dict[str, object], task: str) -> None:
    config = assignment.config
    write_part(
        assignment.folder,
        disk=Disk(is_durable=False),  # whoever lets the part appear brings it to the disk first
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
        manifest=msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n",
    )
