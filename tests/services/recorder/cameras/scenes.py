"""Images, JPEG files and options that the tests of the cameras share."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from services.recorder.cameras.opencv import Image, encoded
from services.recorder.cameras.options import CameraOptions

WIDTH, HEIGHT = 64, 48


def options(place: int | str = "sim://scene", **changes: Any) -> CameraOptions:
    """Return options of a small, fast camera that needs no warming up."""
    return CameraOptions(
        **{"type": "opencv", "index_or_path": place, "width": WIDTH, "height": HEIGHT, "fps": 50, "warmup_s": 0.0, **changes}
    )


def scene(index: int) -> Image:
    """Return a soft image with a bright square whose place depends on ``index``; the upper left corner is red."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.stack([x * 2, y * 3, x + y], axis=-1).astype(np.uint8)
    image[:16, :16] = (0, 0, 255)
    image[20:36, 16 + index % 32 : 24 + index % 32] = 255
    return image


def without_tables(data: bytes) -> bytes:
    """Return a JPEG file without its Huffman tables, as many cameras send it."""
    kept, position = data[:2], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        kept += b"" if data[position + 1] == 0xC4 else data[position:end]
        position = end
    return kept + data[position:]


def write_motion_jpeg(path: Path, *, num_frames: int) -> list[bytes]:
    """Write a file of JPEGs without tables one behind the other, and return them with their tables."""
    frames = [encoded(scene(index)) for index in range(num_frames)]
    path.write_bytes(b"".join(without_tables(frame) for frame in frames))
    return frames


def decoded(data: bytes) -> Image:
    """Return the image of a JPEG file."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image.astype(np.uint8)


def wait_until(condition: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    """Return once the condition holds; fail after the timeout."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition never held"
        time.sleep(0.005)
