"""A disk without room for an episode is refused before recording, with both numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.recorder.room import check_room
from shared.errors import DiskFull


def test_a_folder_that_is_still_to_be_made_has_the_room_of_its_disk(tmp_path: Path) -> None:
    free_bytes = check_room(tmp_path / "not" / "yet", needed_bytes=1)

    assert abs(free_bytes - shutil.disk_usage(tmp_path).free) < 1_000_000_000


def test_too_little_room_is_refused_with_both_numbers_and_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"MB are free and an episode may take 1000000000001 MB: make room") as refused:
        check_room(tmp_path, needed_bytes=10**18 + 1)

    assert str(tmp_path) in str(refused.value)
