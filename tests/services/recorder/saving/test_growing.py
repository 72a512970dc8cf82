"""Images of an episode are found once each, when they are complete, and can be read wherever their folder moves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.recorder.saving.growing import GrowingImages


@pytest.fixture
def growing(tmp_path: Path) -> Iterator[GrowingImages]:
    made = GrowingImages(tmp_path / "e1" / "images")
    yield made
    made.close()


def write(tmp_path: Path, image: str) -> None:
    path = tmp_path / "e1" / "images" / image
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image.encode())


def test_each_image_is_found_once_in_the_order_of_time_also_of_a_camera_that_comes_late(tmp_path: Path, growing: GrowingImages) -> None:
    before_anything = growing.new()
    for time_us in (20, 10):
        write(tmp_path, f"left/{time_us}.jpg")
    first = growing.new()
    write(tmp_path, "left/30.jpg")
    write(tmp_path, "top/10.jpg")

    assert (before_anything, first) == ([], ["left/10.jpg", "left/20.jpg"])
    assert growing.new() == ["left/30.jpg", "top/10.jpg"]
    assert growing.new() == []


def test_what_is_unfinished_or_no_image_is_not_found_until_it_is_named(tmp_path: Path, growing: GrowingImages) -> None:
    for name in ("left/.part-10.jpg", "left/notes.txt", ".hidden/10.jpg"):
        write(tmp_path, name)
    (tmp_path / "e1" / "images" / "list.csv").touch()
    before = growing.new()
    unfinished = tmp_path / "e1" / "images" / "left" / ".part-10.jpg"
    unfinished.rename(unfinished.with_name("10.jpg"))

    assert before == []
    assert growing.new() == ["left/10.jpg"]


def test_a_folder_that_moves_is_read_on(tmp_path: Path, growing: GrowingImages) -> None:
    write(tmp_path, "left/10.jpg")
    growing.new()
    write(tmp_path, "left/20.jpg")
    (tmp_path / "e1").rename(tmp_path / "elsewhere")

    assert growing.new() == ["left/20.jpg"]
    assert [growing.read(f"left/{time_us}.jpg") for time_us in (10, 20)] == [b"left/10.jpg", b"left/20.jpg"]


def test_a_folder_that_is_removed_has_nothing_more(tmp_path: Path, growing: GrowingImages) -> None:
    write(tmp_path, "left/10.jpg")
    growing.new()
    shutil.rmtree(tmp_path / "e1")

    assert growing.new() == []
    assert growing.read("left/10.jpg") is None


def test_no_folder_stays_open(tmp_path: Path) -> None:
    write(tmp_path, "left/10.jpg")
    num_open = len(list(Path("/proc/self/fd").iterdir()))
    growing = GrowingImages(tmp_path / "e1" / "images")
    growing.new()
    growing.close()

    assert len(list(Path("/proc/self/fd").iterdir())) == num_open
