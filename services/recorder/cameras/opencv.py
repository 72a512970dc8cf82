"""The door to OpenCV: video devices, video files and streams, image sequences; JPEG encoding.

Decides how a camera is asked for its own JPEG (Motion JPEG, not converted), what is encoded here because it is none, and
which moment counts as the capture. V4L2 stamps a frame with the monotonic clock when it is captured; where that time is
not sane (another clock, no stamp), the moment counts at which the frame was handed over.
"""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from services.recorder.cameras.devices import check_device
from services.recorder.cameras.errors import CameraRefused, CameraUnreachable, sentence
from services.recorder.cameras.jpeg import Jpeg, whole_jpeg
from services.recorder.cameras.options import CameraOptions

Image = NDArray[np.uint8]
"""Colour image (H, W, 3) in the order blue, green, red."""

_JPEG_QUALITY = 95
_MOTION_JPEG = int.from_bytes(b"MJPG", "little")
_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE, -90: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FPS_TOLERANCE = 0.01
_OLDEST_FRAME_S = 5.0
_NUM_DAMAGED_FIRST = 10
"""Many cameras begin with a few damaged frames."""


class Capture(Protocol):
    """What we use of ``cv2.VideoCapture``."""

    def isOpened(self) -> bool: ...  # noqa: N802, D102 - OpenCV's name
    def grab(self) -> bool: ...  # noqa: D102
    def retrieve(self) -> tuple[bool, Any]: ...  # noqa: D102
    def get(self, property_id: int, /) -> float: ...  # noqa: D102
    def set(self, property_id: int, value: float, /) -> bool: ...  # noqa: D102
    def release(self) -> None: ...  # noqa: D102


def encoded(image: Image, *, quality: int = _JPEG_QUALITY) -> bytes:
    """Return an image as a JPEG file."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


class VideoDevice:
    """A camera of this host.

    Args:
        capture: an open video device.
        options: what it was asked for.
        keeps_jpeg: the device hands over its own JPEG, and nothing needs to be done to it.
    """

    def __init__(self, capture: Capture, options: CameraOptions, *, keeps_jpeg: bool) -> None:
        self._capture = capture
        self._rotation = options.rotation
        self.keeps_jpeg = keeps_jpeg

    def grab(self) -> float | None:
        """Wait for the next frame and return the monotonic time in seconds of its capture; None: the camera gave none."""
        if not self._capture.grab():
            return None
        return capture_time_s(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, now_s=time.monotonic())

    def retrieve(self) -> Jpeg:
        """Return the frame that was grabbed last.

        Raises:
            ValueError: it arrived damaged.
        """
        return _retrieved(self._capture, rotation=self._rotation, keeps_jpeg=self.keeps_jpeg)

    def interrupt(self) -> None:
        """Do nothing: the next frame ends the wait, and OpenCV crashes where a device is closed under a waiting thread."""

    def close(self) -> None:
        """Let the device go."""
        self._capture.release()


class VideoFile:
    """A video file, image sequence or stream in the place of a camera: files are played at the camera's rate, over and over.

    Args:
        name: the camera's.
        options: with a path or URL that OpenCV opens.

    Raises:
        CameraRefused: it cannot be opened.
    """

    def __init__(self, name: str, options: CameraOptions) -> None:
        self._name = name
        self._options = options
        self._is_stream = "://" in str(options.index_or_path)
        self._capture, self.keeps_jpeg = self._opened()
        self._next_s = time.monotonic()

    def grab(self) -> float | None:
        """Wait until the next frame is due and return that monotonic time in seconds; None: a stream has ended."""
        if self._is_stream:
            return time.monotonic() if self._capture.grab() else None
        time.sleep(max(0.0, self._next_s - time.monotonic()))
        if not self._capture.grab():
            self._capture.release()
            self._capture, self.keeps_jpeg = self._opened()
            if not self._capture.grab():
                return None
        due_s = self._next_s
        self._next_s = max(due_s + self._options.period_s, time.monotonic() - self._options.period_s)
        return due_s

    def retrieve(self) -> Jpeg:
        """Return the frame that was grabbed last.

        Raises:
            ValueError: it is damaged.
        """
        return _retrieved(self._capture, rotation=self._options.rotation, keeps_jpeg=self.keeps_jpeg)

    def interrupt(self) -> None:
        """Do nothing: the next frame ends the wait."""

    def close(self) -> None:
        """Close the file or stream."""
        self._capture.release()

    def _opened(self) -> tuple[Capture, bool]:
        path = str(self._options.index_or_path)
        capture = cv2.VideoCapture(path)
        if not capture.isOpened():
            problem = "OpenCV cannot open it: expected the number of a camera, a video file, an image sequence (%05d.jpg) or a stream's URL"
            raise CameraRefused(sentence(self._name, path, problem))
        if self._options.rotation or int(capture.get(cv2.CAP_PROP_FOURCC)) != _MOTION_JPEG:
            return capture, False
        capture.release()
        return cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1]), True


def open_device(name: str, options: CameraOptions) -> VideoDevice:
    """Open a video device, as Motion JPEG where it can.

    Args:
        name: the camera's.
        options: with a ``device_path``.

    Raises:
        CameraRefused: it is absent, forbidden, no camera, or has another resolution or rate.
        CameraUnreachable: another program uses it, or it sends nothing.
    """
    if sys.platform == "linux":
        check_device(name, options)
    backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
    place = options.index_or_path if isinstance(options.index_or_path, int) else str(options.device_path)
    capture = cv2.VideoCapture(place, backend)
    try:
        return configured(capture, name, options)
    except BaseException:
        capture.release()
        raise


def configured(capture: Capture, name: str, options: CameraOptions) -> VideoDevice:
    """Ask an opened device for size, rate and Motion JPEG, and return it as it answered.

    Raises:
        CameraRefused: it is no camera, or has another resolution or rate.
        CameraUnreachable: it sends nothing.
    """
    place = options.index_or_path
    if not capture.isOpened():
        problem = "is there but OpenCV cannot open it as a camera: many cameras have a second device for metadata, try the other number"
        raise CameraRefused(sentence(name, place, problem))
    width, height = options.capture_size
    capture.set(cv2.CAP_PROP_FOURCC, _MOTION_JPEG)  # first: the list of sizes and rates depends on it
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    capture.set(cv2.CAP_PROP_FPS, options.fps)
    found = round(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), round(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    if found != (width, height):
        problem = f"found {found[0]}x{found[1]}, asked for {width}x{height}: set width and height to a size that the camera has"
        raise CameraRefused(sentence(name, place, problem))
    found_fps = capture.get(cv2.CAP_PROP_FPS)
    if found_fps > 0 and abs(found_fps - options.fps) > _FPS_TOLERANCE * options.fps:
        problem = (
            f"found {found_fps:g} frames per second, asked for {options.fps}: set fps to a rate that the camera has at {width}x{height}"
        )
        raise CameraRefused(sentence(name, place, problem))
    return VideoDevice(capture, options, keeps_jpeg=not options.rotation and _hands_over_jpeg(capture, name, options))


def capture_time_s(stamped_s: float, *, now_s: float) -> float:
    """Return the driver's time of a capture where it can be one, else the time of the hand-over.

    Args:
        stamped_s: what the driver says, in seconds of an unknown clock; 0 if it says nothing.
        now_s: monotonic time of the hand-over.
    """
    # A driver holds a handful of frames: none is many seconds old, and none comes from the future.
    return stamped_s if 0 < stamped_s <= now_s < stamped_s + _OLDEST_FRAME_S else now_s


def _hands_over_jpeg(capture: Capture, name: str, options: CameraOptions) -> bool:
    """Return whether the device gives its own JPEG unconverted; the capture is left set to what was found."""
    if int(capture.get(cv2.CAP_PROP_FOURCC)) != _MOTION_JPEG or not capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
        return False
    for _ in range(_NUM_DAMAGED_FIRST):
        if not capture.grab():
            problem = "opened but sends no frame: plug it in again, or give it another USB port (bandwidth)"
            raise CameraUnreachable(sentence(name, options.index_or_path, problem))
        try:
            _retrieved(capture, rotation=0, keeps_jpeg=True)
        except ValueError:
            continue
        return True
    capture.set(cv2.CAP_PROP_CONVERT_RGB, 1)
    return False


def _retrieved(capture: Capture, *, rotation: int, keeps_jpeg: bool) -> Jpeg:
    try:
        is_there, image = capture.retrieve()
        if not is_there or image is None:
            raise ValueError("is no image: it could not be decoded")
        if keeps_jpeg:
            return whole_jpeg(image.tobytes())
        if rotation:
            image = cv2.rotate(image, _ROTATIONS[rotation])
        return Jpeg(encoded(image), width_px=image.shape[1], height_px=image.shape[0])
    except cv2.error as error:
        raise ValueError(f"is no image: {' '.join(str(error).split())}") from error
