"""A disk without room for an episode, and a place that cannot be written, are refused before recording."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.recorder.room import check_room, check_writable
from shared.errors import DiskFull, Refused


def test_a_folder_that_is_still_to_be_made_has_the_room_of_its_disk(tmp_path: Path) -> None:
    free_bytes = check_room(tmp_path / "not" / "yet", needed_bytes=1)

    assert abs(free_bytes - shutil.disk_usage(tmp_path).free) < 1_000_000_000


def test_too_little_room_is_refused_with_both_numbers_and_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"MB are free and an episode may take 1000000000001 MB: make room") as refused:
        check_room(tmp_path, needed_bytes=10**18 + 1)

    assert str(tmp_path) in str(refused.value)


def test_a_folder_that_can_be_written_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    for folder in (tmp_path / "dataset", tmp_path / "home" / "lab" / "blocks"):
        check_writable(folder)

    assert list((tmp_path / "dataset").iterdir()) == []
    assert list((tmp_path / "home" / "lab").iterdir()) == []


@pytest.mark.parametrize("below", [".", "blocks", "lab/blocks"])
def test_a_place_at_or_below_a_file_is_refused_with_a_way_out(tmp_path: Path, below: str) -> None:
    (tmp_path / "home").touch()

    with pytest.raises(Refused, match=r"the dataset cannot be written there: .*choose another folder with --dataset\.root or HF_LEROBOT"):
        check_writable(tmp_path / "home" / below)
