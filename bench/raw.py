"""Raw episodes of any length for the benchmarks, made of the frames of a real or synthetic one.

Frames are hard links to a few hundred distinct JPEG files, so that a long episode costs no disk; joints are sines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START_US = 1_764_564_821_000_000
ARMS = ("left_slave", "left_master", "right_slave", "right_master")
CAMERAS = {"cam_left_wrist": 25, "cam_right_wrist": 25, "cam_env": 30}
NUM_JOINTS = 7
_NUM_DISTINCT = 240


def strategy_document(*, strategy: str = "nearest", preset: str = "medium") -> dict[str, Any]:
    """Return the configuration that fits these episodes."""
    return {
        "robot": {"type": "dual_arm", "arms": [{"name": arm, "role": arm.split("_")[1]} for arm in ARMS], "joints_per_arm": NUM_JOINTS},
        "cameras": [
            {"name": "cam_left_wrist", "role": "base", "target_fps": 25},
            {"name": "cam_right_wrist", "role": "sync", "target_fps": 25},
            {"name": "cam_env", "role": "downsample", "target_fps": 30},
        ],
        "alignment": {"strategy": strategy},
        "video": {"fps": 25, "codec": "h264", "crf": 23, "preset": preset},
    }


def scene(index: int, *, width: int = 640, height: int = 480) -> np.ndarray:
    """Return one picture of a moving scene with texture and sensor noise, (H, W, 3) uint8 BGR."""
    generator = np.random.default_rng(7)
    texture = cv2.resize(generator.integers(60, 190, (48, 64, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    angle = index * 2 * np.pi / _NUM_DISTINCT
    for arm in range(2):
        centre = (int(width * (0.5 + 0.3 * np.cos(angle + arm * 2))), int(height * (0.5 + 0.3 * np.sin(angle * 2 + arm))))
        cv2.circle(texture, centre, 50, (40, 80 + 100 * arm, 200), -1)
        cv2.line(texture, (width // 2, height), centre, (90, 90, 90), 24)
    noise = np.random.default_rng(index).normal(0, 2, texture.shape)
    noisy: np.ndarray = np.clip(texture + noise, 0, 255).astype(np.uint8)
    return noisy


def make_frames(folder: Path) -> list[Path]:
    """Write the distinct JPEG files and return them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:04d}.jpg" for index in range(_NUM_DISTINCT)]
    for index, path in enumerate(paths):
        if not path.exists():
            cv2.imwrite(str(path), scene(index), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def make_episode(root: Path, name: str, frames: list[Path], *, num_rows: int) -> Path:
    """Write an episode that gives about ``num_rows`` rows, in the bucket layout, and return its folder."""
    seconds = num_rows / 25 + 0.08
    folder = root / name
    make_joints(folder / "joints", seconds=seconds)
    for number, (camera, rate_hz) in enumerate(CAMERAS.items()):
        (folder / "images" / camera).mkdir(parents=True)
        for index in range(round((seconds - 0.04) * rate_hz)):
            time_us = START_US + 10_000 + 3000 * number + round(index * 1e6 / rate_hz)
            source = frames[(index + 80 * number) % len(frames)]
            _link(source, folder / "images" / camera / f"{time_us}.jpg")
    return folder


def make_joints(folder: Path, *, seconds: float) -> None:
    """Write a parquet file per arm, 250 Hz, each with a phase of its own."""
    folder.mkdir(parents=True)
    for number, arm in enumerate(ARMS):
        times = START_US + 900 * number + np.arange(round(seconds * 250)) * 4000
        values = np.sin(times[:, None] / 4e5 + np.arange(NUM_JOINTS))
        columns = {f"joint_{index}": values[:, index] for index in range(NUM_JOINTS)}
        pq.write_table(pa.table({"timestamps": times, **columns}), folder / f"{arm}.parquet")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        target.write_bytes(source.read_bytes())
