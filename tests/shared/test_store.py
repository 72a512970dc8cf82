"""One contract for both kinds of store; the servers and folders are real."""

import asyncio
import os
from pathlib import Path

import pytest

from shared.config import BosConfig
from shared.errors import BadConfig, Refused
from shared.store import Store, StorePool, open_store


async def keys(store: Store, prefix: str = "", start_after: str | None = None) -> list[str]:
    return [info.key async for info in store.list(prefix, start_after=start_after)]


async def fill(store: Store, names: list[str]) -> None:
    slots = asyncio.Semaphore(32)

    async def put(name: str) -> None:
        async with slots:
            await store.put_bytes(name.encode(), name)

    await asyncio.gather(*(put(name) for name in names))


class TestEveryStore:
    async def test_bytes_come_back_as_they_were_put(self, store: Store) -> None:
        body = os.urandom(5000)
        await store.put_bytes(body, "a/b c/ü.bin")

        assert await store.get_bytes("a/b c/ü.bin") == body

    async def test_a_file_comes_back_with_its_size_and_leaves_no_temporary_file(self, store: Store, tmp_path: Path) -> None:
        (tmp_path / "in.bin").write_bytes(b"x" * 300_000)
        await store.put(tmp_path / "in.bin", "deep/er/in.bin")

        info = await store.get("deep/er/in.bin", tmp_path / "out" / "out.bin")

        assert info.size_bytes == 300_000
        assert (tmp_path / "out" / "out.bin").read_bytes() == b"x" * 300_000
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["out.bin"]

    async def test_head_tells_the_size_or_that_there_is_nothing(self, store: Store) -> None:
        await store.put_bytes(b"12345", "a/b")

        info = await store.head("a/b")

        assert info is not None
        assert (info.key, info.size_bytes) == ("a/b", 5)
        assert await store.head("a/c") is None
        assert await store.head("a") is None

    async def test_times_are_those_of_the_stores_own_clock(self, store: Store) -> None:
        before_s = await store.clock_s()
        await store.put_bytes(b"x", "a")

        info = await store.head("a")

        assert info is not None
        assert before_s - 1.0 <= info.modified_s <= await store.clock_s() + 1.0

    async def test_a_listing_is_sorted_and_keeps_each_folder_together(self, store: Store) -> None:
        names = ["Z", "a-b/x", "a.jpg", "a/b/c/d", "a/x/..y", "a0/x", "b", "ä"]
        await fill(store, names)

        listed = await keys(store)

        assert sorted(listed) == sorted(names)
        assert listed.index("a/x/..y") == listed.index("a/b/c/d") + 1
        assert [key for key in listed if key[0] != "a"] == ["Z", "b", "ä"]

    async def test_a_listing_goes_on_behind_a_whole_folder(self, store: Store) -> None:
        await fill(store, ["r/e1-b/x", "r/e1/images/x", "r/e1/joints/x", "r/e10/x", "r/e2/x"])
        whole = await keys(store, "r/")

        behind = await keys(store, "r/", start_after="r/e1/~")

        assert behind == whole[whole.index("r/e1/joints/x") + 1 :]

    async def test_over_two_thousand_keys_are_listed_in_order_and_from_anywhere(self, store: Store) -> None:
        names = [f"raw/episode_{index // 100:03d}/images/left/{index:08d}.jpg" for index in range(2_150)]
        await fill(store, [*names, "other/x"])

        assert await keys(store, "raw/") == names
        assert await keys(store, "raw/", start_after=names[1_049]) == names[1_050:]
        assert await keys(store, "raw/", start_after="raw/episode_0200") == names[2_100:]
        assert await keys(store, "raw/episode_003/images/left/000003", start_after=names[320]) == names[321:400]
        assert await keys(store, "raw/", start_after="zzz") == []

    async def test_a_listing_of_nothing_is_empty(self, store: Store) -> None:
        assert await keys(store, "not/there/") == []

    async def test_deleting_removes_and_does_not_mind_what_is_gone(self, store: Store) -> None:
        await fill(store, ["a/1", "a/2", "ab", "b"])

        await store.delete(["b", "never-there"])

        assert await keys(store) == ["a/1", "a/2", "ab"]
        assert await store.delete_prefix("a/") == 2
        assert await keys(store) == ["ab"]

    async def test_a_missing_object_is_refused_with_its_name(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="gone"):
            await store.get("a/gone", tmp_path / "gone")
        with pytest.raises(Refused, match="gone"):
            await store.get_bytes("a/gone")

        assert not (tmp_path / "gone").exists()

    @pytest.mark.parametrize(
        "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\0b", "a\nb", "x" * 1025, "a\\..\\b", ".part-1/x"]
    )
    async def test_a_key_that_leaves_the_root_or_cannot_be_a_name_is_refused(self, store: Store, key: str) -> None:
        with pytest.raises(Refused):
            await store.put_bytes(b"x", key)
        with pytest.raises(Refused):
            await store.get_bytes(key)

    async def test_an_object_is_replaced_whole(self, store: Store) -> None:
        await store.put_bytes(b"long old content", "a")
        await store.put_bytes(b"new", "a")

        assert await store.get_bytes("a") == b"new"

    async def test_sending_a_file_that_is_not_there_is_refused(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(Refused, match=r"nothing\.bin"):
            await store.put(tmp_path / "nothing.bin", "a")

        assert await store.head("a") is None


async def test_a_pool_opens_a_root_once(tmp_path: Path) -> None:
    async with StorePool(BosConfig()) as pool:
        first = await pool.at(tmp_path.as_uri())
        second = await pool.at(tmp_path.as_uri())

    assert first is second


@pytest.mark.parametrize("uri", ["http://x", "/data", "file://relative/x", "file:///a/../b", "s3://", "s3://B/x", "s3://bucket/a/../b"])
async def test_an_address_that_is_no_store_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(BadConfig, match="expected"):
        await open_store(uri, BosConfig())


async def test_a_bucket_without_credentials_is_a_configuration_error() -> None:
    with pytest.raises(BadConfig, match="BOS_ACCESS_KEY"):
        await open_store("s3://bucket", BosConfig())
