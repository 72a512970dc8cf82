"""A part: the complete one-episode dataset that a conversion makes, written around videos that are already there.

Decides the metadata of one episode; ``meta/info.json`` comes last and marks the part complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import BadDataset
from shared.lerobot import layout, rows
from shared.lerobot.disk import Disk
from shared.lerobot.info import Feature, Names, default_features, empty_info, encoded_info, grown, video_feature
from shared.lerobot.records import (
    EpisodeLine,
    FeatureStats,
    Manifest,
    ProvenanceLine,
    Record,
    StatsLine,
    TaskLine,
    decoded,
    decoded_json,
    encoded_line,
)
from shared.lerobot.stats import Stats, column_stats
from shared.lerobot.tables import encoded_table

Array = NDArray[Any]


class CameraVideo(msgspec.Struct, frozen=True, kw_only=True):
    """One camera's finished video.

    Attributes:
        height: in pixels.
        width: in pixels.
        codec: FFmpeg's name of the codec: h264, hevc or av1.
        pix_fmt: FFmpeg's name of the pixel format.
        stats: of the sampled source images (``ImageStats.stats``).
    """

    height: int
    width: int
    codec: str
    pix_fmt: str
    stats: Stats


class PartInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a part holds: rows, ``num_frames / fps`` seconds, and the size of all its files."""

    num_frames: int
    duration_s: float
    num_bytes: int


def write_part(
    root: Path,
    *,
    columns: Mapping[str, Array],
    names: Mapping[str, list[str] | dict[str, Any]],
    cameras: Mapping[str, CameraVideo],
    fps: int,
    task: str,
    robot_type: str,
    manifest: bytes | Mapping[str, Any],
    disk: Disk | None = None,
) -> PartInfo:
    """Write data and metadata of a one-episode dataset around its videos.

    Args:
        root: the part's folder; every camera's video already lies at ``layout.video_path(layout.camera_key(camera), 0)``.
        columns: the user's columns in their order, float32, (N,) or (N, …), the same N >= 1; LeRobot stores (N, 1) as (N,).
        names: names of the elements by column.
        cameras: by camera name, in their order.
        fps: rows and video frames per second.
        task: the instruction in words.
        robot_type: the kind of robot.
        manifest: JSON with at least source, episode_id, strategy and digest.
        disk: writes the files.

    Raises:
        BadDataset: a value is not finite, the episode is too long for float32 timestamps, a name LeRobot cannot load,
            or a manifest without its four keys.
        ValueError: columns of different lengths, or a video is missing.
    """
    disk = disk or Disk()
    columns = {key: values.reshape(-1) if values.shape[1:] == (1,) else values for key, values in columns.items()}
    num_frames = _checked_num_frames(columns, fps)
    features = _user_features(columns, names) | _camera_features(cameras, fps)
    _check_names(features)
    missing = [key for camera in cameras if not (root / layout.video_path(key := layout.camera_key(camera), 0)).is_file()]
    if missing:
        raise ValueError(f"the videos of {', '.join(missing)} are not below {root}")
    info = grown(empty_info(robot_type=robot_type, fps=fps, features=features), num_frames=num_frames, total_tasks=1)
    table = {**columns, **rows.default_columns(num_frames=num_frames, fps=fps, episode_index=0, first_index=0, task_index=0)}
    manifest_content = _encoded_manifest(manifest)
    stats = episode_stats(table, fps=fps) | {layout.camera_key(name): camera.stats.record() for name, camera in cameras.items()}
    lines: dict[str, Record] = {
        layout.EPISODES_PATH: EpisodeLine(episode_index=0, tasks=[task], length=num_frames),
        layout.TASKS_PATH: TaskLine(task_index=0, task=task),
        layout.STATS_PATH: StatsLine(episode_index=0, stats={key: stats[key] for key in info.features}),
        layout.PROVENANCE_PATH: provenance_line(manifest_content, episode_index=0, place="manifest"),
    }
    contents = {
        layout.data_path(0): encoded_table(table, info.columns),
        **{path: encoded_line(line) for path, line in lines.items()},
        layout.manifest_path(0): manifest_content,
        layout.INFO_PATH: encoded_info(info),
    }
    for path, content in contents.items():
        disk.make_folder((root / path).parent)
        if path == layout.INFO_PATH:
            disk.sync_folder(root / "meta")
        disk.write(root / path, content)
    num_bytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return PartInfo(num_frames=num_frames, duration_s=num_frames / fps, num_bytes=num_bytes)


def episode_stats(columns: Mapping[str, Array], *, fps: int) -> dict[str, FeatureStats]:
    """Return the statistics of an episode's columns as LeRobot writes them.

    LeRobot takes the statistics of ``timestamp`` from its float64 times before they become a float32 column.
    """
    exact = {"timestamp": rows.exact_timestamps(len(columns["timestamp"]), fps)}
    return {key: column_stats(exact.get(key, values)).record() for key, values in columns.items() if values.dtype.kind in "biuf"}


def provenance_line(manifest: bytes, *, episode_index: int, place: str) -> ProvenanceLine:
    """Return the index line of the episode that ``manifest`` describes.

    Raises:
        BadDataset: the manifest is no JSON or misses one of its four keys.
    """
    keys = decoded(decoded_json(manifest, place), Manifest, place=place)
    return ProvenanceLine(
        episode_index=episode_index, source=keys.source, episode_id=keys.episode_id, strategy=keys.strategy, digest=keys.digest
    )


def max_num_frames(fps: int) -> int:
    """Return the most rows an episode can have before float32 timestamps fail LeRobot's own spacing check.

    Source: reference of the format: 1024 s at 30 Hz; found here by the check itself on a row beyond any such limit.
    """
    times = rows.exact_timestamps(8192 * fps, fps).astype(np.float32)
    row = rows.spacing_error_index(times, fps)
    return len(times) if row is None else row + 1


def _checked_num_frames(columns: Mapping[str, Array], fps: int) -> int:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"the columns have {sorted(lengths)} rows, expected one number of at least 1")
    num_frames = lengths.pop()
    for key, values in columns.items():
        if (row := rows.first_not_finite(values)) is not None:
            raise BadDataset(
                f"column {key} is not finite at row {row}: no policy can be trained on it; check the raw joints at {row / fps:.3f} s"
            )
    if rows.spacing_error_index(rows.exact_timestamps(num_frames, fps).astype(np.float32), fps) is not None:
        limit = max_num_frames(fps)
        raise BadDataset(
            f"the episode has {num_frames} rows ({num_frames / fps:.0f} s at {fps} fps); "
            f"LeRobot's float32 timestamps carry {limit} ({limit / fps:.0f} s): split the recording"
        )
    return num_frames


def _user_features(columns: Mapping[str, Array], names: Mapping[str, Names]) -> dict[str, Feature]:
    return {
        key: Feature(dtype=values.dtype.name, shape=tuple(values.shape[1:]) or (1,), names=names.get(key))
        for key, values in columns.items()
    }


def _camera_features(cameras: Mapping[str, CameraVideo], fps: int) -> dict[str, Feature]:
    return {
        layout.camera_key(name): video_feature(
            height=camera.height, width=camera.width, fps=fps, codec=camera.codec, pix_fmt=camera.pix_fmt
        )
        for name, camera in cameras.items()
    }


def _check_names(features: Mapping[str, Feature]) -> None:
    for key, feature in features.items():
        if "/" in key or key in default_features():
            raise BadDataset(f"feature {key}: LeRobot forbids '/' in names and keeps {', '.join(default_features())} to itself: rename it")
        if "image" in key and not feature.is_video:
            raise BadDataset(
                f"feature {key}: LeRobot takes every name with 'image' in it for a camera and cannot load the dataset: rename it"
            )


def _encoded_manifest(manifest: bytes | Mapping[str, Any]) -> bytes:
    if isinstance(manifest, bytes):
        return manifest
    return (json.dumps(dict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
