"""A raw episode reaches a folder or a bucket once, whole, and never over another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.recorder.saving.transfer import METADATA_KEY, Progress, revision, transfer
from services.scanner.discovery import Wanted, episodes
from shared.errors import Refused
from shared.places import Place
from shared.store import Store
from shared.store_object import ObjectInfo

CONTENT = {"images/cam/1.jpg": b"one", "images/cam/2.jpg": b"two", "joints/slave.parquet": b"joints"}


def write_raw(folder: Path, *, nonce: str = "mine") -> Path:
    content = {**CONTENT, METADATA_KEY: msgspec.json.encode({"nonce": nonce, "task": "Stack."})}
    for name, body in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    return folder


def place_in(store: Store) -> Place:
    return Place(store.uri, "raw_datas/e1/")


async def names_in(store: Store) -> list[str]:
    return sorted([info.key async for info in store.list("")])


EVERYTHING = sorted(f"raw_datas/e1/{name}" for name in (*CONTENT, METADATA_KEY))


async def test_the_episode_is_there_whole_and_a_second_try_changes_nothing(store: Store, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    await transfer(store, place_in(store), raw=raw, nonce="mine")
    first = [info async for info in store.list("")]
    await transfer(store, place_in(store), raw=raw, nonce="mine")

    assert sorted(info.key for info in first) == EVERYTHING
    assert [info async for info in store.list("")] == first
    assert await store.get_bytes("raw_datas/e1/images/cam/2.jpg") == b"two"


async def test_another_episode_of_that_name_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    await transfer(store, place_in(store), raw=write_raw(tmp_path / "theirs", nonce="theirs"), nonce="theirs")

    with pytest.raises(Refused, match="holds another episode of that name"):
        await transfer(store, place_in(store), raw=write_raw(tmp_path / "raw"), nonce="mine")
    assert b"theirs" in await store.get_bytes(f"raw_datas/e1/{METADATA_KEY}")


async def test_an_episode_that_is_nowhere_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is gone"):
        await transfer(store, place_in(store), raw=tmp_path / "raw", nonce="mine")


async def test_metadata_that_is_no_json_is_somebody_elses(store: Store, tmp_path: Path) -> None:
    await store.put_bytes(b"{", f"raw_datas/e1/{METADATA_KEY}")

    with pytest.raises(Refused, match="holds another episode"):
        await transfer(store, place_in(store), raw=write_raw(tmp_path / "raw"), nonce="mine")


async def test_a_bucket_gets_only_what_it_has_not_yet_and_the_metadata_last(s3_store: Store, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    await s3_store.put_bytes(b"ONE", "raw_datas/e1/images/cam/1.jpg")  # as long as ours: taken for ours
    await s3_store.put_bytes(b"t", "raw_datas/e1/images/cam/2.jpg")
    await s3_store.put_bytes(b"JOINTS", "raw_datas/e1/joints/slave.parquet")
    await transfer(s3_store, place_in(s3_store), raw=raw, nonce="mine")

    assert await names_in(s3_store) == EVERYTHING
    kept = [await s3_store.get_bytes(f"raw_datas/e1/{name}") for name in sorted(CONTENT)]
    assert kept == [b"ONE", b"two", b"joints"]


class Noting:
    """A store that notes what is put, in order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.keys: list[str] = []
        self.questions: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in {"list", "head", "get", "get_bytes"}:
            self.questions.append(name)
        return getattr(self.store, name)

    async def put(self, path: Path, key: str) -> None:
        await self.store.put(path, key)
        self.keys.append(key.removeprefix("raw_datas/e1/"))


async def test_a_bucket_gets_images_then_joints_then_the_file_that_completes_the_episode(s3_store: Store, tmp_path: Path) -> None:
    noting = Noting(s3_store)
    await transfer(noting, place_in(s3_store), raw=write_raw(tmp_path / "raw"), nonce="mine")

    assert sorted(noting.keys[:2]) == ["images/cam/1.jpg", "images/cam/2.jpg"]
    assert noting.keys[2:] == ["joints/slave.parquet", METADATA_KEY]


IMAGE_SIZES = {name: len(body) for name, body in CONTENT.items() if name.startswith("images/")}


@pytest.mark.parametrize("sizes", [None, IMAGE_SIZES])
async def test_of_what_was_sent_ahead_only_the_rest_is_sent_and_nothing_is_asked(
    s3_store: Store, tmp_path: Path, sizes: dict[str, int] | None
) -> None:
    for name, body in (("images/cam/1.jpg", b"one"), ("images/cam/9.jpg", b"gone")):
        await s3_store.put_bytes(body, f"raw_datas/e1/{name}")
    noting = Noting(s3_store)
    progress = Progress(sizes=sizes, sent={"images/cam/1.jpg": 3, "images/cam/9.jpg": 4})
    await transfer(noting, place_in(s3_store), raw=write_raw(tmp_path / "raw"), nonce="mine", progress=progress)

    assert noting.keys == ["images/cam/2.jpg", "joints/slave.parquet", METADATA_KEY]
    assert await names_in(s3_store) == EVERYTHING
    assert noting.questions == []


async def test_an_image_that_was_sent_before_it_was_whole_is_sent_again(s3_store: Store, tmp_path: Path) -> None:
    progress = Progress(sent={"images/cam/1.jpg": 2, "images/cam/2.jpg": 3})
    noting = Noting(s3_store)
    await transfer(noting, place_in(s3_store), raw=write_raw(tmp_path / "raw"), nonce="mine", progress=progress)

    assert noting.keys == ["images/cam/1.jpg", "joints/slave.parquet", METADATA_KEY]
    assert progress.sent is not None
    assert progress.sent["images/cam/1.jpg"] == 3


async def test_an_episode_sent_ahead_whose_folder_is_gone_is_refused(s3_store: Store, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is gone"):
        await transfer(s3_store, place_in(s3_store), raw=tmp_path / "raw", nonce="mine", progress=Progress(sent={}))


async def test_a_bucket_with_files_of_somebody_else_is_refused(s3_store: Store, tmp_path: Path) -> None:
    await s3_store.put_bytes(b"x", "raw_datas/e1/images/other/1.jpg")

    with pytest.raises(Refused, match=r"holds images/other/1\.jpg, which is no part of this episode"):
        await transfer(s3_store, place_in(s3_store), raw=write_raw(tmp_path / "raw"), nonce="mine")
    assert await names_in(s3_store) == ["raw_datas/e1/images/other/1.jpg"]


async def test_an_incomplete_folder_of_somebody_else_is_refused(file_store: Store, tmp_path: Path) -> None:
    await file_store.put_bytes(b"x", "raw_datas/e1/images/cam/1.jpg")

    with pytest.raises(Refused, match="is there already and is no complete episode"):
        await transfer(file_store, place_in(file_store), raw=write_raw(tmp_path / "raw"), nonce="mine")


async def test_in_a_folder_of_the_same_file_system_nothing_is_copied(file_store: Store, tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    inode = (raw / "images/cam/1.jpg").stat().st_ino
    await transfer(file_store, place_in(file_store), raw=raw, nonce="mine")

    there = file_store.local_path("raw_datas/e1/images/cam/1.jpg")
    assert there is not None
    assert there.stat().st_ino == inode
    assert not raw.exists()


@pytest.mark.parametrize("is_copied", [False, True])
async def test_to_another_file_system_the_episode_is_copied_and_appears_at_once(file_store: Store, tmp_path: Path, is_copied: bool) -> None:
    # A folder that a mount covers cannot be renamed across it: /dev/shm is another file system than the temporary folder.
    other = Path("/dev/shm") / f"episodeflow-{os.getpid()}"
    try:
        raw = write_raw((other if is_copied else tmp_path) / "raw")
        crosses = raw.stat().st_dev != tmp_path.stat().st_dev
        await transfer(file_store, place_in(file_store), raw=raw, nonce="mine")
        await transfer(file_store, place_in(file_store), raw=raw, nonce="mine")

        assert raw.exists() == crosses
        assert await names_in(file_store) == EVERYTHING
    finally:
        for path in sorted(other.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if other.exists():
            other.rmdir()


async def test_the_revision_is_the_one_that_the_scanner_finds(store: Store, tmp_path: Path) -> None:
    await transfer(store, place_in(store), raw=write_raw(tmp_path / "raw"), nonce="mine")
    wanted = Wanted(arm_files=(), cameras=(), min_files=1, settle_s=0)
    listed: list[ObjectInfo] = [info async for info in store.list("raw_datas/")]

    async def listing():
        for info in listed:
            yield info

    [found] = [each async for each in episodes(listing(), prefix="raw_datas/", wanted=wanted, now_s=2e9)]
    assert await revision(store, place_in(store)) == found.revision
