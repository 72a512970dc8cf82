"""Images are in the bucket before their episode ends, only where nothing else lies, and only what is complete."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.s3_server import S3Server
from services.recorder.saving.forwarding import Forwarding
from services.recorder.saving.traces import Trace
from shared.config import BosConfig
from shared.errors import StoreUnavailable
from shared.places import Place
from shared.store import StorePool
from tests.fixtures_store import create_bucket
from tests.services.recorder.saving.labs import eventually
from tests.services.recorder.saving.senders import Sender, images, sending


@pytest.fixture
async def sender(tmp_path: Path, bos: BosConfig) -> AsyncIterator[Sender]:
    async with sending(tmp_path, bos) as made:
        yield made


async def test_images_arrive_while_they_come_in_and_their_sizes_are_handed_over(sender: Sender) -> None:
    sender.record("e1", 10, 20)
    await sender.until_there("e1", 10, 20)
    sender.record("e1", 300)
    (sender.folder / "recording" / "e1" / "images" / "top" / ".part-400.jpg").write_bytes(b"half")
    await sender.until_there("e1", 10, 20, 300)
    noted = sender.traces.all()
    sent = await sender.forwarding.handed_over("e1", sender.place("e1"))

    place = sender.place("e1")
    assert noted == [Trace(episode_id="e1", root=place.root, prefix=place.prefix)]
    assert sent == {name: 3 if "300" in name else 2 for name in images(10, 20, 300)}
    assert not sender.forwarding.is_at("e1")


async def test_several_episodes_at_once_go_to_their_own_places(sender: Sender) -> None:
    for index, name in enumerate(("e1", "e2", "e3")):
        sender.record(name, index)
    for index, name in enumerate(("e1", "e2", "e3")):
        await sender.until_there(name, index)

    assert [trace.episode_id for trace in sender.traces.all()] == ["e1", "e2", "e3"]


async def test_what_moved_into_the_outbox_is_sent_to_its_end(sender: Sender) -> None:
    sender.record("e1", 10)
    await sender.until_there("e1", 10)
    sender.record("e1", *range(20, 60))
    (sender.folder / "recording" / "e1").rename(sender.folder / "outbox" / "e1")
    await sender.until_there("e1", 10, *range(20, 60))

    assert await sender.forwarding.handed_over("e1", sender.place("e1")) == dict.fromkeys(images(10, *range(20, 60)), 2)


async def test_a_place_that_holds_something_is_not_touched(sender: Sender) -> None:
    await sender.store.put_bytes(b"theirs", "raw_datas/e1/images/left/10.jpg")
    sender.record("e1", 10, 20)
    sender.record("e2", 10)
    await sender.until_there("e2", 10)

    assert await sender.forwarding.handed_over("e1", sender.place("e1")) is None
    assert await sender.keys("e1") == ["images/left/10.jpg"]
    assert [trace.episode_id for trace in sender.traces.all()] == ["e2"]


async def test_an_episode_whose_name_still_waits_in_the_outbox_is_not_sent(sender: Sender) -> None:
    (sender.folder / "outbox" / "e1").mkdir()
    sender.record("e1", 10)
    sender.record("e2", 10)
    await sender.until_there("e2", 10)

    assert (await sender.keys("e1"), sender.forwarding.is_at("e1")) == ([], False)


async def test_a_saver_that_starts_again_asks_what_is_there_and_sends_the_rest(tmp_path: Path, bos: BosConfig) -> None:
    async with sending(tmp_path, bos) as first:
        first.record("e1", 10, 20)
        await first.until_there("e1", 10, 20)
    before = [info async for info in _listed(bos)]
    async with sending(tmp_path, bos) as second:
        second.record("e1", 30)
        await second.until_there("e1", 10, 20, 30)
        sent = await second.forwarding.handed_over("e1", second.place("e1"))

    assert sent == dict.fromkeys(images(10, 20, 30), 2)
    again = [info async for info in _listed(bos)]
    assert [info for info in again if "30.jpg" not in info.key] == before


async def _listed(bos: BosConfig):
    async with StorePool(bos) as stores:
        async for info in (await stores.at(f"s3://{bos.bucket}")).list(""):
            yield info


async def test_another_place_than_the_one_sent_to_is_not_taken_for_it(sender: Sender) -> None:
    sender.record("e1", 10)
    await sender.until_there("e1", 10)
    other = Place(sender.store.uri, "elsewhere/e1/")
    sender.forwarding.forget("e1", other)

    assert await sender.forwarding.handed_over("e1", other) is None
    assert len(sender.traces.all()) == 1
    sender.forwarding.forget("e1", sender.place("e1"))
    assert sender.traces.all() == []


async def test_of_many_episodes_that_wait_only_the_latest_are_remembered(sender: Sender) -> None:
    names = [f"e{index:02d}" for index in range(11)]
    for name in names:
        sender.record(name, 10)
        await sender.until_there(name, 10)
        (sender.folder / "recording" / name).rename(sender.folder / "outbox" / name)
    await eventually(lambda: not sender.forwarding.is_at("e02"))

    assert [name for name in names if sender.forwarding.is_at(name)] == names[3:]
    assert len(sender.traces.all()) == 11


async def test_episodes_for_a_folder_are_not_sent_ahead(tmp_path: Path) -> None:
    async with StorePool(BosConfig()) as stores:
        forwarding = Forwarding(tmp_path, stores=stores, place_of=lambda name: Place(tmp_path.as_uri(), f"{name}/"))
        async with asyncio.timeout(5.0):
            await forwarding.run()

    assert list(tmp_path.iterdir()) == []


async def test_a_bucket_that_goes_away_gets_the_rest_when_it_is_back(tmp_path: Path, private_s3_server: S3Server) -> None:
    await create_bucket(private_s3_server, "robots")
    async with sending(tmp_path, private_s3_server.bos_config("robots")) as sender:
        sender.record("e1", 10)
        await sender.until_there("e1", 10)
        for name in ("e1", "gone"):
            sender.record(name, 20)
        await sender.until_there("gone", 20)
        await private_s3_server.kill()
        sender.record("e1", *range(30, 60))
        sender.record("e2", 10)
        shutil.rmtree(sender.folder / "recording" / "gone")
        await eventually(lambda: not sender.forwarding.is_at("gone"))
        with pytest.raises(StoreUnavailable):
            await sender.strays.remove()
        left = [trace.episode_id for trace in sender.traces.all()]
        await private_s3_server.start()
        await sender.until_there("e1", 10, 20, *range(30, 60))
        await sender.until_there("e2", 10)
        await sender.strays.remove()

        assert left == ["e1", "gone"]
        assert await sender.keys("gone") == []
        assert [trace.episode_id for trace in sender.traces.all()] == ["e1", "e2"]
