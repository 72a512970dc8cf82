"""Waiting for several things, and for things that must not be left half done."""

from __future__ import annotations

import asyncio

import pytest

from services.uploader.waiting import completed, together, while_held
from shared.bus import Bus
from shared.leases import DatasetBusy, Key, Lease


async def test_the_first_failure_is_raised_and_ends_the_others() -> None:
    ended = asyncio.Event()

    async def fail() -> None:
        raise OSError("first")

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(OSError, match="first"):
        await together([wait(), fail()])

    assert ended.is_set()


async def test_what_must_be_completed_is_completed_although_the_caller_is_cancelled() -> None:
    begun, may_end, steps = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await may_end.wait()
        steps.append("done")

    task = asyncio.create_task(completed(work()))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["done"]


async def test_work_ends_with_its_lease(bus: Bus, source: str) -> None:
    lease = Lease(Key(bus, source, timeout_s=5.0), lease_s=0.6)
    assert await lease.take()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(DatasetBusy):
        await while_held(lease, work())

    assert ended.is_set()


async def test_work_that_is_done_in_time_gives_its_result_or_its_own_error(bus: Bus, source: str) -> None:
    lease = Lease(Key(bus, source, timeout_s=5.0), lease_s=10.0)
    assert await lease.take()

    async def fail() -> None:
        raise OSError("mine")

    assert await while_held(lease, asyncio.sleep(0, result=7)) == 7
    with pytest.raises(OSError, match="mine"):
        await while_held(lease, fail())
