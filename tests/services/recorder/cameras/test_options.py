"""Options of one camera."""

from typing import Any

import msgspec
import pytest

from services.recorder.cameras.options import CameraOptions
from tests.services.recorder.cameras.scenes import options

GIVEN = {"type": "opencv", "index_or_path": 9, "width": 640, "height": 480, "fps": 30}


def test_options_that_lerobot_users_type_are_read() -> None:
    found = msgspec.convert({**GIVEN, "color_mode": "rgb", "rotation": 0, "warmup_s": 1}, CameraOptions)

    assert found == CameraOptions(type="opencv", index_or_path=9, width=640, height=480, fps=30)
    assert (found.device_path, found.capture_size, found.is_simulated) == ("/dev/video9", (640, 480), False)
    assert found.period_s == pytest.approx(1 / 30)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"type": "intelrealsense"}, "camera type 'intelrealsense' is not supported, expected one of: opencv"),
        ({"color_mode": "bgr"}, "color_mode is 'bgr', expected 'rgb'"),
        ({"width": 641}, "641x480 pixels, expected even sides"),
        ({"index_or_path": -1}, "index_or_path is -1"),
        ({"fps": 0}, "fps"),
        ({"rotation": 45}, "rotation"),
        ({"serial_number": "1"}, "serial_number"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem):
        msgspec.convert({**GIVEN, **change}, CameraOptions)


@pytest.mark.parametrize("rotation", [90, -90, 270])
def test_a_camera_that_stands_on_its_side_is_asked_for_the_turned_size(rotation: int) -> None:
    assert options(width=480, height=640, rotation=rotation).capture_size == (640, 480)


@pytest.mark.parametrize(
    ("place", "device"),
    [
        ("3", "/dev/video3"),
        ("/dev/video3", "/dev/video3"),
        ("/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam"),
        ("film.avi", None),
        ("sim://x", None),
    ],
)
def test_devices_are_told_from_files(place: str, device: str | None) -> None:
    assert options(place).device_path == device
