"""A synthetic camera: a moving scene, paced by the real clock, with the faults that its address asks for.

The scene is encoded once when the device is opened (a loop of two seconds in which no frame is like its neighbours), as a
camera with its own JPEG encoder costs its host nothing either. Like a driver it keeps a few frames for a late reader and
drops older ones.
"""

from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
from numpy.typing import NDArray

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable, sentence
from services.recorder.cameras.jpeg import Jpeg, whole_jpeg
from services.recorder.cameras.opencv import Image, encoded
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.synthetic_address import ABSENT, SyntheticCamera, synthetic_camera

_LOOP_S = 2
_JPEG_QUALITY = 80
_NUM_SHAPES = 4
_NUM_BUFFERS = 4
_SILENCE_S = 10.0
"""How long a silent device lets its reader wait, as V4L2 does."""


class SyntheticDevice:
    """A device that can be opened again and again, as a real one that was unplugged; its clock starts with the first time.

    Args:
        name: the camera's.
        options: with an address ``sim://NAME``.

    Raises:
        CameraRefused: the address is wrong.
    """

    def __init__(self, name: str, options: CameraOptions) -> None:
        self._name = name
        self._options = options
        try:
            self._camera = synthetic_camera(str(options.index_or_path))
        except ValueError as error:
            raise CameraRefused(sentence(name, options.index_or_path, str(error))) from error
        self._loop: list[bytes] = []
        self._started_s: float | None = None

    def open(self) -> SyntheticSource:
        """Open the device.

        Raises:
            CameraRefused: it is absent.
            CameraUnreachable: it is unplugged now.
        """
        camera, place = self._camera, self._options.index_or_path
        if camera.name == ABSENT:
            raise CameraRefused(sentence(self._name, place, "there is no such synthetic camera, as its name asks for; name it otherwise"))
        if self._started_s is None:
            size = camera.delivered_size(self._options.capture_size)
            self._loop = rendered_loop(camera.name, size=size, num_frames=_LOOP_S * self._options.fps)
            self._started_s = time.monotonic()
        elif is_away(camera, camera.unplug_after_s, time.monotonic() - self._started_s):
            raise CameraUnreachable(sentence(self._name, place, "is unplugged"))
        return SyntheticSource(camera, self._loop, fps=self._options.fps, started_s=self._started_s)


class SyntheticSource:
    """An opened synthetic camera.

    Args:
        camera: its faults.
        loop: its frames as JPEG files, shown in turn.
        fps: its rate in Hz.
        started_s: monotonic time of its first frame.
    """

    def __init__(self, camera: SyntheticCamera, loop: list[bytes], *, fps: int, started_s: float) -> None:
        self._camera = camera
        self._loop = loop
        self._fps = fps
        self._started_s = started_s
        self._random = np.random.default_rng(_seed(camera.name))
        self._closed = threading.Event()
        self._tick = self._tick_now() - 1

    def grab(self) -> float | None:
        """Wait for the next frame and return the monotonic time in seconds of its capture; None: the camera gave none."""
        self._tick = max(self._tick + 1, self._tick_now() - _NUM_BUFFERS)
        while self._random.random() < self._camera.lose:
            self._tick += 1
        elapsed_s = self._tick / self._fps
        if is_away(self._camera, self._camera.unplug_after_s, elapsed_s):
            return None
        if is_away(self._camera, self._camera.stop_after_s, elapsed_s):
            return self._silence()
        jitter_s = self._random.uniform(0, self._camera.jitter_ms) / 1000
        captured_s = self._started_s + elapsed_s + jitter_s
        return None if self._closed.wait(max(0.0, captured_s - time.monotonic())) else captured_s

    def retrieve(self) -> Jpeg:
        """Return the frame that was grabbed last.

        Raises:
            ValueError: it arrived damaged.
        """
        frozen_s = self._camera.freeze_after_s
        tick = self._tick if frozen_s is None else min(self._tick, round(frozen_s * self._fps))
        data = self._loop[tick % len(self._loop)]
        return whole_jpeg(data[: len(data) // 2] if self._random.random() < self._camera.damage else data)

    def interrupt(self) -> None:
        """End a wait for a frame."""
        self._closed.set()

    def close(self) -> None:
        """Let the device go."""
        self._closed.set()

    def _tick_now(self) -> int:
        return int((time.monotonic() - self._started_s) * self._fps)

    def _silence(self) -> float | None:
        if self._camera.back_after_s is None or self._camera.stop_after_s is None:
            self._closed.wait(_SILENCE_S)
            return None
        back_s = self._camera.stop_after_s + self._camera.back_after_s
        self._closed.wait(max(0.0, self._started_s + back_s - time.monotonic()))
        self._tick = max(self._tick, int(back_s * self._fps))
        return self.grab()


def is_away(camera: SyntheticCamera, after_s: float | None, elapsed_s: float) -> bool:
    """Return whether a camera that goes away after some seconds is away now."""
    if after_s is None or elapsed_s < after_s:
        return False
    return camera.back_after_s is None or elapsed_s < after_s + camera.back_after_s


def rendered_loop(name: str, *, size: tuple[int, int], num_frames: int) -> list[bytes]:
    """Return the frames of a scene as JPEG files: discs that circle over a soft background; the end fits the beginning.

    Args:
        name: chooses the scene.
        size: width and height in pixels.
        num_frames: at least 2.
    """
    width, height = size
    random = np.random.default_rng(_seed(name))
    background = _background(random, width=width, height=height)
    radius = max(2, height // 10)
    disc = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    shapes = [(random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.4), random.integers(0, 256, 3)) for _ in range(_NUM_SHAPES)]
    frames = []
    for index in range(max(2, num_frames)):
        image = background.copy()
        for turn, (phase, share, colour) in enumerate(shapes, start=1):
            angle = phase + turn * 2 * np.pi * index / num_frames
            x = round(width * (0.5 + share * np.cos(angle)))
            y = round(height * (0.5 + share * np.sin(angle)))
            _stamp(image, disc, x=x, y=y, colour=colour.astype(np.uint8))
        frames.append(encoded(image, quality=_JPEG_QUALITY))
    return frames


def _background(random: np.random.Generator, *, width: int, height: int) -> Image:
    """Return soft waves of colour (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / width * random.uniform(2, 9) + random.uniform(0, 6)) * np.cos(y / height * random.uniform(2, 9)) for _ in range(3)]
    return (np.stack(waves, axis=-1) * 80 + 128).astype(np.uint8)


def _stamp(image: Image, disc: NDArray[np.bool_], *, x: int, y: int, colour: Image) -> None:
    """Paint a disc around (x, y) where it is inside the image."""
    radius = disc.shape[0] // 2
    height, width = image.shape[:2]
    top, left = max(0, y - radius), max(0, x - radius)
    bottom, right = min(height, y + radius + 1), min(width, x + radius + 1)
    if top < bottom and left < right:
        visible = disc[top - y + radius : bottom - y + radius, left - x + radius : right - x + radius]
        image[top:bottom, left:right][visible] = colour


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
