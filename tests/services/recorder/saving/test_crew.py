"""Workers share one heap; a failure is raised as it is, and a cancellation goes before it."""

from __future__ import annotations

import asyncio

import pytest

from services.recorder.saving.crew import work_together
from shared.errors import StoreUnavailable


async def test_every_piece_is_done_once_by_as_many_as_are_asked_for() -> None:
    heap, done, busy = iter(range(20)), [], []

    async def work() -> None:
        busy.append(1)
        for piece in heap:
            await asyncio.sleep(0)
            done.append(piece)

    await work_together(work, num_workers=3)

    assert (sorted(done), len(busy)) == (list(range(20)), 3)


async def test_the_first_failure_ends_the_others_and_is_raised_itself() -> None:
    ended, begun = asyncio.Event(), asyncio.Event()
    failing = iter([True, False])

    async def work() -> None:
        if next(failing):
            await begun.wait()
            raise StoreUnavailable("the store is away")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(StoreUnavailable, match="is away"):
        await work_together(work, num_workers=2)
    task = asyncio.current_task()
    assert ended.is_set()
    assert task is not None
    assert task.cancelling() == 0  # a loop that goes on is not taken for a cancelled one


async def test_a_cancellation_is_not_lost_in_a_failure_at_the_same_moment() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StoreUnavailable("the connection was cut") from None

    working = asyncio.create_task(work_together(work, num_workers=1))
    await begun.wait()
    working.cancel()
    await asyncio.wait({working})

    assert working.cancelled()


async def test_without_work_there_is_nothing_to_do() -> None:
    async def work() -> None:
        raise StoreUnavailable("nobody asked")

    assert await work_together(work, num_workers=0) is None
