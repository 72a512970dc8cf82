"""The socket to the camera process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from services.recorder.cameras.errors import CameraUnreachable
from services.recorder.cameras.link import Link
from services.recorder.cameras.messages import Discard, Discarded, Open, Opened, Show


@asynccontextmanager
async def opened(deaths: list[str]) -> AsyncIterator[Link]:
    link = await Link.opened(on_news=lambda _: None, on_death=deaths.append)
    try:
        yield link
    finally:
        await link.close()


async def test_replies_come_in_the_order_of_the_requests() -> None:
    deaths: list[str] = []
    async with opened(deaths) as link:
        replies = await asyncio.gather(link.ask(Discard()), link.ask(Open({}, 0, None)), link.ask(Discard()), link.ask(Discard()))
        pid = link.pid

    assert list(replies) == [Discarded(), Opened(None), Discarded(), Discarded()]
    assert not psutil.pid_exists(pid)
    assert deaths == []


async def test_a_child_that_breaks_is_told_with_its_last_words() -> None:
    deaths: list[str] = []
    async with opened(deaths) as link:
        link.post(Opened(None))  # nothing that it could be asked
        with pytest.raises(CameraUnreachable, match=r"ended with status 1 \(.*ValidationError.*\); start the recorder again"):
            await link.ask(Discard())

        assert len(deaths) == 1
        with pytest.raises(CameraUnreachable):
            await link.ask(Discard())
        assert not link.post(Show({}, 0))


async def test_a_child_that_is_behind_gets_no_more_to_show() -> None:
    async with opened([]) as link:
        joints = {f"joint_{index}.pos": float(index) for index in range(1000)}

        sent = [link.post(Show(joints, 0)) for _ in range(1000)]

        assert sent[0]
        assert not sent[-1]
