"""Cameras are encoded side by side: every file hashed, shown frames decoded, and one bad image stops all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from services.converter.encoding import CameraJob, EncodedCamera, encode_cameras
from services.converter.raw import CameraFrames
from shared.config import VideoConfig
from shared.errors import BadRaw
from tests.services.converter.episodes import jpeg


def job(folder: Path, camera: str, indices: list[int], *, num_frames: int = 8) -> CameraJob:
    (folder / camera).mkdir()
    for index in range(num_frames):
        (folder / camera / f"{index}.jpg").write_bytes(jpeg(20 * index))
    names = np.array([f"{index}.jpg" for index in range(num_frames)], np.bytes_)
    frames = CameraFrames(camera=camera, folder=folder / camera, times_us=np.arange(num_frames), names=names)
    video = VideoConfig(preset="ultrafast", crf=1)
    return CameraJob(frames=frames, indices=np.array(indices), path=folder / f"{camera}.mp4", fps=25, video=video)


def brightness(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]


def encoded(jobs: dict[str, CameraJob]) -> tuple[dict[str, EncodedCamera], int]:
    counted: list[int] = []
    return encode_cameras(jobs, counted.append), sum(counted)


def test_rows_show_their_frames_and_progress_counts_every_row_of_every_camera(tmp_path: Path) -> None:
    chosen = [1, 1, 4, 6]
    found, counted = encoded({"a": job(tmp_path, "a", chosen), "b": job(tmp_path, "b", [0, 1, 2, 3])})

    assert list(found) == ["a", "b"]
    assert counted == 8
    levels = brightness(tmp_path / "a.mp4")
    assert abs(levels[0] - levels[1]) < 0.5
    assert levels[1] + 2 < levels[2] < levels[3] - 2
    assert (found["a"].width_px, found["a"].height_px) == (64, 48)


def test_every_raw_file_is_hashed_whether_a_row_shows_it_or_not(tmp_path: Path) -> None:
    found, _ = encoded({"a": job(tmp_path, "a", [2, 5])})

    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "a").iterdir()}
    assert found["a"].digests == expected


def test_a_repeated_frame_counts_once_per_row_in_the_statistics(tmp_path: Path) -> None:
    found, _ = encoded({"a": job(tmp_path, "a", [0, 0, 0, 7])})

    assert found["a"].stats.num_images == 4


def test_a_frame_that_no_row_shows_may_be_damaged(tmp_path: Path) -> None:
    made = job(tmp_path, "a", [0, 2])
    (tmp_path / "a/1.jpg").write_bytes(b"damaged")
    found, counted = encoded({"a": made})

    assert counted == 2
    assert found["a"].digests["1.jpg"] == hashlib.sha256(b"damaged").hexdigest()


def test_a_bad_image_of_one_camera_stops_the_others(tmp_path: Path) -> None:
    long = job(tmp_path, "long", [0] * 200_000)
    bad = job(tmp_path, "bad", [0, 1, 2])
    (tmp_path / "bad/1.jpg").write_bytes(b"")
    counted: list[int] = []

    with pytest.raises(BadRaw) as caught:
        encode_cameras({"long": long, "bad": bad}, counted.append)

    assert str(caught.value) == "images/bad/1.jpg: is empty (0 bytes), expected a JPEG image"
    assert sum(counted) < 200_000


@pytest.mark.parametrize(("kind", "problem"), [("missing", "cannot be read: No such file"), ("folder", "cannot be read: Is a directory")])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, kind: str, problem: str) -> None:
    made = job(tmp_path, "a", [0, 3])
    (tmp_path / "a/3.jpg").unlink()
    if kind == "folder":
        (tmp_path / "a/3.jpg").mkdir()

    with pytest.raises(BadRaw) as caught:
        encoded({"a": made})

    assert str(caught.value).startswith(f"images/a/3.jpg: {problem}")
