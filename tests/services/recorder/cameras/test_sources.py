"""One way to open every kind of camera."""

from pathlib import Path

import pytest

from services.recorder.cameras.errors import CameraRefused
from services.recorder.cameras.opencv import VideoFile
from services.recorder.cameras.sources import opener
from services.recorder.cameras.synthetic import SyntheticSource
from tests.services.recorder.cameras.scenes import options, write_motion_jpeg


def test_the_place_chooses_the_kind_of_camera(tmp_path: Path) -> None:
    write_motion_jpeg(tmp_path / "film.mjpeg", num_frames=2)
    film = opener("left", options(str(tmp_path / "film.mjpeg")))()
    synthetic = opener("left", options("sim://x"))()
    film.close()

    assert isinstance(film, VideoFile)
    assert isinstance(synthetic, SyntheticSource)


def test_a_device_is_looked_for_only_when_it_is_opened() -> None:
    open_camera = opener("left", options(987))

    with pytest.raises(CameraRefused, match="/dev/video987 does not exist"):
        open_camera()


def test_a_wrong_address_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(CameraRefused, match="has no name"):
        opener("left", options("sim://"))
