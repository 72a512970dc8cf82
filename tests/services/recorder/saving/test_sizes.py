"""Bytes of images are counted while they come, wherever their folder is meanwhile."""

from __future__ import annotations

from pathlib import Path

from services.recorder.saving.sizes import ImageSizes


def write(images: Path, camera: str, name: str, *, num_bytes: int) -> None:
    (images / camera).mkdir(parents=True, exist_ok=True)
    (images / camera / name).write_bytes(b"x" * num_bytes)


def test_images_are_counted_once_also_after_their_folder_moved(tmp_path: Path) -> None:
    sizes = ImageSizes()
    write(tmp_path / "images", "left", "1.jpg", num_bytes=10)
    counts = [sizes.count("e1", tmp_path / "images")]
    write(tmp_path / "images", "right", "1.jpg", num_bytes=5)
    (tmp_path / "images").rename(tmp_path / "moved")
    write(tmp_path / "moved", "left", "2.jpg", num_bytes=3)
    counts += [sizes.count("e1", tmp_path / "images"), sizes.count("e1", tmp_path / "moved")]

    assert counts == [10, 10, 18]


def test_episodes_are_counted_apart_and_one_that_is_forgotten_begins_anew(tmp_path: Path) -> None:
    sizes = ImageSizes()
    write(tmp_path / "a", "left", "1.jpg", num_bytes=10)
    write(tmp_path / "b", "left", "1.jpg", num_bytes=4)
    counts = [sizes.count("a", tmp_path / "a"), sizes.count("b", tmp_path / "b")]
    sizes.forget_all_but({"b"})

    assert [*counts, sizes.count("a", tmp_path / "b"), sizes.count("b", tmp_path / "gone")] == [10, 4, 4, 4]


def test_what_may_still_be_growing_is_counted_later(tmp_path: Path) -> None:
    sizes = ImageSizes()
    write(tmp_path, "left", "1.jpg", num_bytes=1)
    first = sizes.count("e1", tmp_path, settled_s=60.0)
    write(tmp_path, "left", "1.jpg", num_bytes=10)

    assert (first, sizes.count("e1", tmp_path)) == (0, 10)
