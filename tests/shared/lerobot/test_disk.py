"""Durable steps on a real file system."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pytest

from shared.errors import BadDataset, DiskFull
from shared.lerobot.disk import Disk, locked, translated


@pytest.mark.parametrize(("before", "after"), [(None, b"new\n"), (b"", b"new\n"), (b"old\n", b"old\nnew\n"), (b"old", b"old\nnew\n")])
def test_lines_come_after_the_old_ones_in_a_copy(tmp_path: Path, before: bytes | None, after: bytes) -> None:
    if before is not None:
        (tmp_path / "lines").write_bytes(before)

    Disk().extend_lines(tmp_path / "lines", tmp_path / "staged", b"new\n")

    assert (tmp_path / "staged").read_bytes() == after
    assert not (tmp_path / "lines").exists() or (tmp_path / "lines").read_bytes() == before


def test_a_link_shares_the_content_where_the_file_system_allows_it(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"frames")

    Disk().link(tmp_path / "video", tmp_path / "second")

    assert (tmp_path / "second").samefile(tmp_path / "video")


def test_a_full_disk_is_worth_another_try_and_names_the_file() -> None:
    with pytest.raises(DiskFull, match="dataset/info: cannot be written, the disk is full"), translated(Path("dataset/info")):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_other_refusals_of_the_file_system_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="No such file or directory"):
        Disk().write(tmp_path / "absent" / "file", b"")


def test_a_removed_folder_may_be_absent(tmp_path: Path) -> None:
    Disk().remove_folder(tmp_path / "absent")
    Disk().remove(tmp_path / "absent")

    assert list(tmp_path.iterdir()) == []


def read_and_write_back(lock: Path, target: Path) -> None:
    with locked(lock):
        content = target.read_bytes()
        target.write_bytes(content + b"x")


def test_a_lock_lets_one_process_in_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_bytes(b"")

    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(read_and_write_back, [(tmp_path / "lock", tmp_path / "count")] * 60, chunksize=1)
        pool.close()
        pool.join()

    assert (tmp_path / "count").read_bytes() == b"x" * 60
