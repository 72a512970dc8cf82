"""Waiting for several things at once, and for things that must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from shared.leases import Lease

T = TypeVar("T")


async def together(calls: list[Coroutine[None, None, None]]) -> None:
    """Await all; the first failure cancels the others and is raised itself."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def completed(work: Awaitable[T]) -> T:
    """Await something short to its end even if the caller is cancelled, and only then let the cancellation through."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def while_held(lease: Lease, work: Coroutine[Any, Any, T]) -> T:
    """Await work as long as its lease is held; cancel it when less than a third of the lease is left.

    Raises:
        DatasetBusy: the lease slipped away.
    """
    working = asyncio.create_task(work)
    slipping = asyncio.create_task(lease.slipping())
    try:
        await asyncio.wait({working, slipping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await slipping
        return await working
    finally:
        slipping.cancel()
        working.cancel()
        await asyncio.gather(working, slipping, return_exceptions=True)
