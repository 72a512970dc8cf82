"""The door to OpenCV: real files, and a stand-in for the part of a video device that we use."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.opencv import VideoFile, capture_time_s, configured, encoded, open_device
from tests.services.recorder.cameras.scenes import HEIGHT, WIDTH, decoded, options, scene, without_tables, write_motion_jpeg

MJPG = int.from_bytes(b"MJPG", "little")
YUYV = int.from_bytes(b"YUYV", "little")


class Device:
    """A video device as OpenCV shows it: has one size, rate and pixel format; hands over JPEG when not converting."""

    def __init__(self, *, fourcc: int = MJPG, frame: bytes = b"", num_frames: int = 1000, **found: float) -> None:
        self.asked: dict[int, float] = {}
        self.fixed = {
            cv2.CAP_PROP_FOURCC: fourcc,
            **{getattr(cv2, f"CAP_PROP_{name.upper()}"): value for name, value in found.items()},
        }
        self.frame = frame or encoded(scene(0))
        self.num_frames = num_frames

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def grab(self) -> bool:
        self.num_frames -= 1
        return self.num_frames >= 0

    def retrieve(self) -> tuple[bool, Any]:
        if self.asked.get(cv2.CAP_PROP_CONVERT_RGB) == 0:
            return True, np.frombuffer(self.frame + bytes(500), np.uint8)[None]
        return True, scene(0)

    def get(self, property_id: int, /) -> float:
        return self.fixed.get(property_id, self.asked.get(property_id, 0.0))

    def set(self, property_id: int, value: float, /) -> bool:
        self.asked[property_id] = value
        return True

    def release(self) -> None:
        self.num_frames = 0


def test_jpeg_of_a_device_is_kept_byte_for_byte() -> None:
    device = configured(Device(), "left", options(0))

    assert device.keeps_jpeg
    assert device.grab() is not None
    assert device.retrieve().data == encoded(scene(0))


def test_jpeg_of_a_device_gets_its_missing_tables() -> None:
    device = configured(Device(frame=without_tables(encoded(scene(0)))), "left", options(0))

    assert device.keeps_jpeg
    assert np.array_equal(decoded(device.retrieve().data), decoded(encoded(scene(0))))


@pytest.mark.parametrize("device", [Device(fourcc=YUYV), Device(frame=b"\x80" * 999)], ids=["another format", "jpeg in name only"])
def test_a_device_without_jpeg_is_encoded_here(device: Device) -> None:
    source = configured(device, "left", options(0))

    assert not source.keeps_jpeg
    assert source.retrieve().data == encoded(scene(0))


def test_a_device_that_stands_on_its_side_is_turned() -> None:
    source = configured(Device(), "left", options(0, rotation=90, width=HEIGHT, height=WIDTH))

    frame = source.retrieve()

    assert (frame.width_px, frame.height_px) == (HEIGHT, WIDTH)
    red = decoded(frame.data)[4, -5]  # clockwise: the upper left corner goes to the upper right
    assert red == pytest.approx([0, 0, 255], abs=50)


@pytest.mark.parametrize(
    ("device", "problem"),
    [
        (Device(frame_width=1280, frame_height=720), f"found 1280x720, asked for {WIDTH}x{HEIGHT}"),
        (Device(fps=15), "found 15 frames per second, asked for 50"),
    ],
    ids=["size", "rate"],
)
def test_a_device_with_another_size_or_rate_is_refused_with_both(device: Device, problem: str) -> None:
    with pytest.raises(CameraRefused, match=f"camera left .*index_or_path 0\\): {problem}"):
        configured(device, "left", options(0))


def test_a_device_that_sends_nothing_is_unreachable() -> None:
    with pytest.raises(CameraUnreachable, match="opened but sends no frame"):
        configured(Device(num_frames=0), "left", options(0))


def test_a_device_that_does_not_open_is_refused() -> None:
    with pytest.raises(CameraRefused, match="OpenCV cannot open it as a camera"):
        configured(cv2.VideoCapture(), "left", options(0))


def test_an_index_that_is_not_there_is_refused_before_opencv_tries() -> None:
    with pytest.raises(CameraRefused, match="/dev/video987 does not exist"):
        open_device("left", options(987))


def test_capture_time_is_the_drivers_where_it_can_be_one() -> None:
    assert capture_time_s(99.97, now_s=100.0) == 99.97
    assert capture_time_s(100.001, now_s=100.0) == 100.0
    assert capture_time_s(0.0, now_s=100.0) == 100.0
    assert capture_time_s(1_764_564_821.0, now_s=100.0) == 100.0
    assert capture_time_s(20.0, now_s=100.0) == 100.0


def test_a_device_tells_the_drivers_time() -> None:
    stamped_s = time.monotonic() - 0.01

    device = configured(Device(pos_msec=stamped_s * 1000), "left", options(0))

    assert device.grab() == pytest.approx(stamped_s, abs=1e-6)


def test_frames_of_a_motion_jpeg_file_are_kept_with_tables_and_played_over_and_over(tmp_path: Path) -> None:
    written = write_motion_jpeg(tmp_path / "film.mjpeg", num_frames=5)
    source = VideoFile("left", options(str(tmp_path / "film.mjpeg"), fps=500))

    found = []
    for _ in range(12):
        assert source.grab() is not None
        found.append(source.retrieve().data)
    source.close()

    assert source.keeps_jpeg
    assert [decoded(one).tobytes() for one in found] == [decoded(written[index % 5]).tobytes() for index in range(12)]
    assert all(without_tables(one) == without_tables(written[index % 5]) for index, one in enumerate(found))


def write_avi(folder: Path) -> str:
    writer = cv2.VideoWriter(str(folder / "film.avi"), cv2.CAP_OPENCV_MJPEG, MJPG, 30, (WIDTH, HEIGHT))
    for index in range(4):
        writer.write(scene(index))
    writer.release()
    return str(folder / "film.avi")


def write_sequence(folder: Path) -> str:
    for index in range(4):
        (folder / f"{index:03d}.jpg").write_bytes(encoded(scene(index)))
    return str(folder / "%03d.jpg")


@pytest.mark.parametrize("write", [write_avi, write_sequence])
@pytest.mark.parametrize("rotation", [0, 180])
def test_files_show_their_frames(write: Callable[[Path], str], rotation: int, tmp_path: Path) -> None:
    source = VideoFile("left", options(write(tmp_path), fps=20, rotation=rotation))
    times_s, images = [], []
    for _ in range(4):
        times_s.append(source.grab() or 0.0)
        images.append(decoded(source.retrieve().data))
    source.close()

    assert np.diff(times_s) == pytest.approx(np.full(3, 1 / 20), abs=0.02)
    for index, image in enumerate(images):
        expected = np.rot90(scene(index), 2) if rotation else scene(index)
        assert np.abs(image.astype(int) - expected).mean() < 6


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")

    with pytest.raises(CameraRefused, match=r"notes.txt\): OpenCV cannot open it"):
        VideoFile("left", options(str(tmp_path / "notes.txt")))
