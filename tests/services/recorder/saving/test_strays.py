"""What was sent of an episode that will never be complete leaves the bucket, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.recorder.saving.traces import Trace
from services.recorder.saving.transfer import METADATA_KEY
from shared.config import BosConfig
from tests.services.recorder.saving.labs import eventually
from tests.services.recorder.saving.senders import Sender, images, sending


@pytest.fixture
async def sender(tmp_path: Path, bos: BosConfig) -> AsyncIterator[Sender]:
    async with sending(tmp_path, bos) as made:
        yield made


async def test_a_discarded_episode_leaves_the_bucket(sender: Sender) -> None:
    for name in ("e1", "e2"):
        sender.record(name, 10, 20)
        await sender.until_there(name, 10, 20)
    shutil.rmtree(sender.folder / "recording" / "e1")
    await eventually(lambda: not sender.forwarding.is_at("e1"))
    await sender.strays.remove()

    assert (await sender.keys("e1"), await sender.keys("e2")) == ([], images(10, 20))
    assert [trace.episode_id for trace in sender.traces.all()] == ["e2"]


async def test_what_waits_in_the_outbox_is_no_stray(sender: Sender) -> None:
    sender.record("e1", 10)
    await sender.until_there("e1", 10)
    (sender.folder / "recording" / "e1").rename(sender.folder / "outbox" / "e1")
    await sender.forwarding.handed_over("e1", sender.place("e1"))
    await sender.strays.remove()

    assert await sender.keys("e1") == images(10)


async def test_an_episode_that_is_complete_in_the_bucket_stays_although_its_trace_came_back(sender: Sender) -> None:
    await sender.store.put_bytes(b"image", "raw_datas/e1/images/left/10.jpg")
    await sender.store.put_bytes(b"{}", f"raw_datas/e1/{METADATA_KEY}")
    place = sender.place("e1")
    sender.traces.note(Trace(episode_id="e1", root=place.root, prefix=place.prefix))
    await sender.strays.remove()

    assert await sender.keys("e1") == ["images/left/10.jpg", METADATA_KEY]
    assert sender.traces.all() == []
