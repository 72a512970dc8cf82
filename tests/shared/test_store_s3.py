"""What only S3 can do to us: wrong keys, missing buckets, servers that die, bodies that arrive cut."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cli.s3_server import S3Server
from shared.config import BosConfig
from shared.errors import Refused, StoreUnavailable
from shared.settings import Secret
from shared.store_s3 import PART_BYTES, Patience, S3Store
from tests.fixtures_store import create_bucket

HASTE = Patience(connect_timeout_s=2, read_timeout_s=5, max_attempts=1)


@asynccontextmanager
async def opened(bos: BosConfig, *, bucket: str | None = None) -> AsyncIterator[S3Store]:
    store = await S3Store.open(bucket=bucket or bos.bucket or "", prefix="", bos=bos, patience=HASTE)
    try:
        yield store
    finally:
        await store.close()


async def open_uploads(store: S3Store) -> list[str]:
    answer = await store._client.list_multipart_uploads(Bucket=store._bucket)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


async def until_parts_arrive(store: S3Store) -> None:
    async with asyncio.timeout(30):
        while not await open_uploads(store):  # noqa: ASYNC110 - the server tells nobody; each turn asks it
            await asyncio.sleep(0.01)


async def test_a_large_file_goes_in_parts_and_comes_back_the_same(bos: BosConfig, tmp_path: Path) -> None:
    body = os.urandom(2 * PART_BYTES + 12_345)
    (tmp_path / "big").write_bytes(body)
    async with opened(bos) as store:
        await store.put(tmp_path / "big", "big")
        info = await store.get("big", tmp_path / "back")

    assert info.size_bytes == len(body)
    assert info.etag is not None
    assert info.etag.endswith("-3")
    assert (tmp_path / "back").read_bytes() == body


async def test_a_cancelled_upload_in_parts_leaves_nothing(bos: BosConfig, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(20 * PART_BYTES)
    async with opened(bos) as store:
        sending = asyncio.create_task(store.put(tmp_path / "big", "big"))
        await until_parts_arrive(store)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        assert await store.head("big") is None
        assert await open_uploads(store) == []


async def test_parts_that_a_killed_process_sent_go_when_the_same_key_is_sent_again_and_of_other_keys_stay(
    bos: BosConfig, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(PART_BYTES + 1))
    async with opened(bos) as store:
        for key in ("a", "ab"):
            await store._client.create_multipart_upload(Bucket=store._bucket, Key=key)

        await store.put(tmp_path / "big", "a")

        assert await open_uploads(store) == ["ab"]


async def test_an_upload_that_somebody_else_ended_is_retryable(bos: BosConfig, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as big:
        big.truncate(20 * PART_BYTES)
    async with opened(bos) as store:
        putting = asyncio.create_task(store.put(tmp_path / "big", "a"))
        await until_parts_arrive(store)
        found = await store._client.list_multipart_uploads(Bucket=store._bucket)
        await store._client.abort_multipart_upload(Bucket=store._bucket, Key="a", UploadId=found["Uploads"][0]["UploadId"])

        with pytest.raises(StoreUnavailable, match="NoSuchUpload"):
            await putting


async def test_a_file_that_shrinks_while_it_is_sent_is_not_visible(bos: BosConfig, tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as big:
        big.truncate(20 * PART_BYTES)
    async with opened(bos) as store:
        sending = asyncio.create_task(store.put(path, "big"))
        await until_parts_arrive(store)
        os.truncate(path, 1000)

        with pytest.raises(StoreUnavailable, match="shrank"):
            await sending
        assert await store.head("big") is None
        assert await open_uploads(store) == []


@pytest.mark.parametrize("field", ["access_key", "secret_key"])
async def test_wrong_credentials_are_refused_and_say_what_to_check(s3_server: S3Server, bos: BosConfig, field: str) -> None:
    keys = {"access_key": Secret(s3_server.access_key), "secret_key": Secret(s3_server.secret_key), field: Secret("wrong-wrong-wrong")}
    wrong = BosConfig(endpoint=bos.endpoint, bucket=bos.bucket, **keys)
    async with opened(wrong) as store:
        with pytest.raises(Refused, match="BOS_ACCESS_KEY") as refusal:
            await store.put_bytes(b"x", "a")
        with pytest.raises(Refused, match="BOS_ACCESS_KEY"):
            await store.head("a")

    assert s3_server.secret_key not in str(refusal.value)
    assert str(bos.bucket) in str(refusal.value)


async def test_a_missing_bucket_is_refused_by_name(bos: BosConfig) -> None:
    async with opened(bos, bucket="no-such-bucket") as store:
        with pytest.raises(Refused, match="no-such-bucket"):
            await store.clock_s()
        with pytest.raises(Refused, match="no-such-bucket"):
            await anext(aiter(store.list()))


async def test_a_prefix_of_the_uri_is_put_before_every_key(bos: BosConfig) -> None:
    async with opened(bos) as whole:
        below = await S3Store.open(bucket=str(bos.bucket), prefix="team/a/", bos=bos)
        await below.put_bytes(b"x", "k")
        listed = [info.key async for info in below.list()]
        await below.close()

        assert listed == ["k"]
        assert await whole.get_bytes("team/a/k") == b"x"


async def test_a_server_killed_during_a_put_is_retryable_and_the_next_try_succeeds(private_s3_server: S3Server, tmp_path: Path) -> None:
    server = private_s3_server
    await create_bucket(server, "killed")
    (tmp_path / "big").write_bytes(os.urandom(12 * PART_BYTES))
    async with opened(server.bos_config("killed")) as store:
        sending = asyncio.create_task(store.put(tmp_path / "big", "big"))
        await until_parts_arrive(store)
        await server.kill()
        with pytest.raises(StoreUnavailable, match="killed"):
            await sending

        await server.start()
        assert await store.head("big") is None
        await store.put(tmp_path / "big", "big")
        await store.get("big", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()


async def test_a_server_killed_during_a_listing_is_retryable_and_the_listing_goes_on_after_the_last_key(
    private_s3_server: S3Server,
) -> None:
    server = private_s3_server
    await create_bucket(server, "killed")
    names = [f"k/{index:05d}" for index in range(1_100)]
    async with opened(server.bos_config("killed")) as store:
        for start in range(0, len(names), 50):
            await asyncio.gather(*(store.put_bytes(b"x", name) for name in names[start : start + 50]))
        seen: list[str] = []
        listing = store.list("k/")
        seen.extend([(await anext(listing)).key for _ in range(1_000)])
        await server.kill()
        with pytest.raises(StoreUnavailable):
            await anext(listing)
        await server.start()
        rest = [info.key async for info in store.list("k/", start_after=seen[-1])]

    assert seen + rest == names


async def _answer(body: bytes, *, length: int, etag: str) -> tuple[asyncio.Server, str]:
    """A server that answers every request with the same object, whatever is true of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f'HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: "{etag}"\r\nLast-Modified: Sat, 21 Nov 2026 01:00:00 GMT\r\n\r\n'
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("length", "etag"),
    [(10, "5d41402abc4b2a76b9719d911017c592"), (5, "00000000000000000000000000000000")],
    ids=["cut short", "wrong content"],
)
async def test_an_object_that_does_not_arrive_whole_is_retryable_and_leaves_no_file(tmp_path: Path, length: int, etag: str) -> None:
    server, url = await _answer(b"hello", length=length, etag=etag)
    bos = BosConfig(endpoint=url, bucket="cut", access_key=Secret("a"), secret_key=Secret("b"))
    async with server, opened(bos) as store:
        with pytest.raises(StoreUnavailable):
            await store.get("k", tmp_path / "k")
        with pytest.raises(StoreUnavailable):
            await store.get_bytes("k")

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a test may block


async def test_an_etag_of_many_parts_is_not_taken_for_an_md5(tmp_path: Path) -> None:
    server, url = await _answer(b"hello", length=5, etag="00000000000000000000000000000000-2")
    bos = BosConfig(endpoint=url, bucket="cut", access_key=Secret("a"), secret_key=Secret("b"))
    async with server, opened(bos) as store:
        await store.get("k", tmp_path / "k")

    assert (tmp_path / "k").read_bytes() == b"hello"


async def test_nobody_at_the_endpoint_is_retryable_and_named() -> None:
    server, url = await _answer(b"", length=0, etag="")
    server.close()
    await server.wait_closed()
    bos = BosConfig(endpoint=url, bucket="away", access_key=Secret("a"), secret_key=Secret("b"))
    async with opened(bos) as store:
        with pytest.raises(StoreUnavailable, match=url):
            await store.head("k")
