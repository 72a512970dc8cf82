"""meta/info.json: what a dataset is made of (features, rate, robot) and how much of it there is.

Decides what info.json says of a new dataset and how its totals grow; unknown keys survive a rewrite.

Source: lerobot 0.3.3, ``create_empty_dataset_info`` and ``get_video_info`` (order of the keys).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.records import Record, decoded, decoded_json, plain, read_bytes

Names = list[str] | dict[str, Any] | None


class Feature(Record, frozen=True, kw_only=True):
    """One column of the table, or one camera.

    Attributes:
        dtype: numpy's name of the element type, or ``video``.
        shape: of one row; ``(1,)`` is a scalar column, a camera is ``(H, W, 3)``.
        names: of the elements; ``["height", "width", "channels"]`` for a camera.
        info: a camera's video as LeRobot describes it (``video.codec``, …), or unset.
    """

    dtype: str
    shape: tuple[int, ...]
    names: Names = None
    info: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def is_video(self) -> bool:
        """Whether the feature is a camera whose frames lie in mp4 files."""
        return self.dtype == "video"

    def video_info(self, key: str) -> Any:
        """Return what ``info`` says under ``key`` (``video.codec``, …), or None."""
        return self.info.get(key) if isinstance(self.info, dict) else None


class Info(Record, frozen=True, kw_only=True):
    """The content of info.json."""

    BELOW: ClassVar[Mapping[str, type[Record]]] = {"features": Feature}

    codebase_version: str
    robot_type: str | None = None
    total_episodes: int
    total_frames: int
    total_tasks: int
    total_videos: int
    total_chunks: int
    chunks_size: int
    fps: int
    splits: dict[str, str] = msgspec.field(default_factory=dict)
    data_path: str
    video_path: str | None = None
    features: dict[str, Feature]

    @property
    def columns(self) -> dict[str, Feature]:
        """The features that are columns of the parquet files, in their order."""
        return {key: feature for key, feature in self.features.items() if not feature.is_video}

    @property
    def video_keys(self) -> tuple[str, ...]:
        """The keys of the cameras, in their order."""
        return tuple(key for key, feature in self.features.items() if feature.is_video)

    def data_file(self, episode_index: int) -> str:
        """Return the path of an episode's parquet file, as this info.json lays files out."""
        return layout.data_path(episode_index, chunks_size=self.chunks_size, template=self.data_path)

    def video_file(self, video_key: str, episode_index: int) -> str:
        """Return the path of an episode's video, as this info.json lays files out."""
        template = self.video_path or layout.VIDEO_PATH
        return layout.video_path(video_key, episode_index, chunks_size=self.chunks_size, template=template)


def default_features() -> dict[str, Feature]:
    """Return the five features of every dataset, in LeRobot's order."""
    return {column: Feature(dtype=dtype, shape=(1,)) for column, dtype in layout.DEFAULT_DTYPE_BY_COLUMN.items()}


def video_feature(*, height: int, width: int, fps: int, codec: str, pix_fmt: str) -> Feature:
    """Return the feature of a colour camera.

    Args:
        height: of the video in pixels.
        width: of the video in pixels.
        fps: of the video in Hz.
        codec: FFmpeg's name of the codec (not of the encoder): h264, hevc or av1.
        pix_fmt: FFmpeg's name of the pixel format.
    """
    info = {
        "video.height": height,
        "video.width": width,
        "video.codec": codec,
        "video.pix_fmt": pix_fmt,
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    return Feature(dtype="video", shape=(height, width, 3), names=list(layout.CAMERA_AXES), info=info)


def empty_info(*, robot_type: str | None, fps: int, features: Mapping[str, Feature]) -> Info:
    """Return the info.json of a dataset with these user features and cameras, the default columns and no episode yet."""
    return Info(
        codebase_version=layout.CODEBASE_VERSION,
        robot_type=robot_type,
        total_episodes=0,
        total_frames=0,
        total_tasks=0,
        total_videos=0,
        total_chunks=0,
        chunks_size=layout.CHUNKS_SIZE,
        fps=fps,
        splits={},
        data_path=layout.DATA_PATH,
        video_path=layout.VIDEO_PATH if any(feature.is_video for feature in features.values()) else None,
        features={**features, **default_features()},
    )


def grown(info: Info, *, num_episodes: int = 1, num_frames: int, total_tasks: int) -> Info:
    """Return ``info`` with the totals after ``num_episodes`` more episodes of together ``num_frames`` rows."""
    total_episodes = info.total_episodes + num_episodes
    return msgspec.structs.replace(
        info,
        total_episodes=total_episodes,
        total_frames=info.total_frames + num_frames,
        total_tasks=total_tasks,
        total_videos=total_episodes * len(info.video_keys),
        total_chunks=layout.num_chunks(total_episodes, info.chunks_size),
        splits={**info.splits, "train": f"0:{total_episodes}"},
    )


def encoded_info(info: Info) -> bytes:
    """Return the content of info.json as LeRobot writes it (indent 4, no final newline)."""
    return json.dumps(plain(info), indent=4, ensure_ascii=False, allow_nan=False).encode()


def decoded_info(content: bytes, *, place: str) -> Info:
    """Return the info.json in ``content``.

    Raises:
        BadDataset: no JSON, another version than v2.1, a key missing or a value of a wrong type.
    """
    document = decoded_json(content, place)
    version = document.get("codebase_version") if isinstance(document, Mapping) else None
    if isinstance(version, str) and version != layout.CODEBASE_VERSION:
        raise BadDataset(
            f"{place}: codebase_version is {version}, expected {layout.CODEBASE_VERSION}: convert the dataset with LeRobot's own tools"
        )
    info = decoded(document, Info, place=place)
    if info.chunks_size < 1 or info.fps < 1:
        raise BadDataset(f"{place}: chunks_size={info.chunks_size} and fps={info.fps}, expected both to be at least 1; restore the file")
    try:
        info.data_file(0), info.video_file("key", 0)
    except (KeyError, IndexError, ValueError) as error:
        raise BadDataset(f"{place}: data_path or video_path has a placeholder that is not LeRobot's ({error}); restore the file") from error
    return info


def read_info(root: Path) -> Info:
    """Return the info.json of the dataset at ``root``.

    Raises:
        BadDataset: it is missing, or not what LeRobot v2.1 needs.
    """
    path = root / layout.INFO_PATH
    return decoded_info(read_bytes(path), place=str(path))
