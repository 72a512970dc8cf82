"""Synthetic raw episodes for tests: small, exact, and easy to break in one place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.converter.assignment import RawEpisode
from shared.config import StrategyConfig, decode_strategy

START_US = 1_700_000_000_000_000
ARMS = ("left_slave", "left_master", "right_slave", "right_master")
CAMERAS = ("cam_base", "cam_side")
NUM_JOINTS = 3

STRATEGY: dict[str, Any] = {
    "robot": {"type": "two_arms", "arms": [{"name": arm, "role": arm.split("_")[1]} for arm in ARMS], "joints_per_arm": NUM_JOINTS},
    "cameras": [{"name": "cam_base", "role": "base", "target_fps": 25}, {"name": "cam_side", "role": "downsample", "target_fps": 30}],
    "alignment": {"strategy": "nearest"},
    "video": {"preset": "ultrafast"},
}


def strategy(**overrides: Any) -> StrategyConfig:
    return decode_strategy(STRATEGY, place="test", overrides={key.replace("__", "."): value for key, value in overrides.items()})


def jpeg(value: int, *, width: int = 64, height: int = 48, grey: bool = False) -> bytes:
    """A picture with a gradient whose brightness and colour follow ``value``."""
    rows, columns = np.mgrid[0:height, 0:width]
    level = 40 + value % 150
    image = np.stack([columns * 120 / width + 60, rows * 120 / height + 50, np.full(rows.shape, level)], axis=2).astype(np.uint8)
    return cv2.imencode(".jpg", image[:, :, 0] if grey else image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def write_arm(path: Path, times_us: Iterable[int], values: np.ndarray | None = None) -> None:
    times = np.fromiter(times_us, np.int64)
    if values is None:
        values = np.sin(times[:, None] / 3e5 + np.arange(NUM_JOINTS))
    table = pa.table({"timestamps": times, **{f"joint_{index}": values[:, index] for index in range(values.shape[1])}})
    pq.write_table(table, path)


def camera_times(rate_hz: int, seconds: float, offset_us: int) -> list[int]:
    return [START_US + offset_us + round(index * 1e6 / rate_hz) for index in range(round(seconds * rate_hz))]


def write_episode(root: Path, name: str = "episode_0001", *, seconds: float = 1.0, task: str | None = None) -> Path:
    """Write an episode in the bucket layout and return its folder."""
    folder = root / name
    (folder / "joints").mkdir(parents=True)
    for offset_us, arm in enumerate(ARMS):
        write_arm(folder / "joints" / f"{arm}.parquet", range(START_US + offset_us, START_US + round(seconds * 1e6), 4000))
    for camera, rate_hz, offset_us in (("cam_base", 25, 10_000), ("cam_side", 30, 3_000)):
        (folder / "images" / camera).mkdir(parents=True)
        for index, time_us in enumerate(camera_times(rate_hz, seconds, offset_us)):
            (folder / "images" / camera / f"{time_us}.jpg").write_bytes(jpeg(index))
    if task is not None:
        (folder / "joints" / "metadata.json").write_text(f'{{"task": "{task}"}}')
    return folder


def raw_episode(folder: Path) -> RawEpisode:
    return RawEpisode(episode_id=folder.name, joints=folder / "joints", images=folder / "images")
