"""Video devices of a host."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.recorder.cameras.devices import check_device, check_distinct, holders, video_devices
from services.recorder.cameras.errors import CameraRefused
from tests.services.recorder.cameras.scenes import options


def test_video_devices_are_listed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("video10", "video2", "video0", "videodev", "v4l"):
        (tmp_path / name).touch()

    assert [Path(path).name for path in video_devices(tmp_path)] == ["video0", "video2", "video10"]


def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(CameraRefused, match=r"camera left .*index_or_path 987\): /dev/video987 does not exist; video devices here: "):
        check_device("left", options(987))


def test_whoever_has_a_device_open_is_named(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    assert holders(device) == []

    with subprocess.Popen(
        [sys.executable, "-c", "import sys; f = open(sys.argv[1]); print(flush=True); sys.stdin.read()", str(device)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        found = holders(device)
        process.communicate()

    assert [f"(pid {process.pid})" in holder for holder in found] == [True]


def test_two_cameras_on_one_device_are_refused() -> None:
    with pytest.raises(CameraRefused, match=r"camera right .* is the device of camera left too"):
        check_distinct({"left": options(9), "right": options("/dev/video9")})


def test_synthetic_cameras_and_files_may_be_used_twice() -> None:
    cameras = {"left": options("sim://x"), "right": options("sim://x"), "top": options(1), "front": options(2)}

    assert {options.device_path for options in cameras.values()} == {None, "/dev/video1", "/dev/video2"}
    check_distinct(cameras)
