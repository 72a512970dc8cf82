"""Files are synced by either way, and an error of the background is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.recorder.saving.durability import FileSystem, sync_each


def test_both_ways_to_the_disk_accept_a_tree(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"content")
    file_system = FileSystem(tmp_path)
    file_system.sync_ahead()
    file_system.sync(tmp_path)
    file_system.close()
    sync_each(tmp_path)

    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"


def test_what_went_wrong_ahead_is_raised_once_by_the_sync_that_counts(tmp_path: Path) -> None:
    file_system = FileSystem(tmp_path)
    file_system.close()
    file_system.sync_ahead()  # on a closed file, as on a disk that went away
    again = FileSystem(tmp_path)  # takes the number of the closed file: the disk is back

    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system.sync(tmp_path)
    file_system.sync(tmp_path)
    again.close()


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")

    with pytest.raises(FileNotFoundError):
        sync_each(tmp_path)
