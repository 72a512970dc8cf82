"""What only folders can do to us: temporary files, links, missing roots, full disks."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

import pytest

from shared.errors import DiskFull, Refused
from shared.store_file import FileStore, write_file


async def keys(store: FileStore) -> list[str]:
    return [info.key async for info in store.list()]


async def test_unfinished_files_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / ".part-123").write_bytes(b"x")
    (tmp_path / ".part-folder").mkdir()
    (tmp_path / ".part-folder" / "b").write_bytes(b"x")

    assert await keys(FileStore(tmp_path)) == ["a"]


async def test_an_object_can_be_read_in_place(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await store.put_bytes(b"x", "a/b")

    assert store.local_path("a/b").read_bytes() == b"x"
    assert store.local_path("a/") == tmp_path / "a"
    with pytest.raises(Refused):
        store.local_path("../etc")


async def test_links_to_folders_are_followed_unless_they_lead_back(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").write_bytes(b"x")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "broken").symlink_to(root / "nothing")

    assert await keys(FileStore(root)) == ["linked/x"]


async def test_a_missing_root_is_refused_by_its_clock_and_made_by_the_first_object(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "later")
    with pytest.raises(Refused, match="does not exist"):
        await store.clock_s()

    await store.put_bytes(b"x", "a")

    assert await store.clock_s() > 0
    assert await keys(store) == ["a"]


async def test_deleting_the_last_object_of_a_folder_removes_the_folder(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "root")
    await store.put_bytes(b"x", "a/b/c")
    await store.put_bytes(b"x", "a/d")

    await store.delete(["a/b/c"])

    assert not (tmp_path / "root" / "a" / "b").exists()
    assert await keys(store) == ["a/d"]


def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fill(opened: BinaryIO) -> None:
        opened.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match="make room"):
        write_file(tmp_path / "a", fill)

    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


async def test_keys_are_in_the_order_of_their_bytes_also_where_folders_meet_files(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    names = ["a-b/x", "a.jpg", "a0/x", "a/x/..y", "Z", "ä", "a/b/c/d", "b"]
    for name in names:
        await store.put_bytes(b"x", name)

    assert await keys(store) == sorted(names, key=str.encode)
    assert [info.key async for info in store.list(start_after="a-b/x")] == sorted(names, key=str.encode)[2:]
