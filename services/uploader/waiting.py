"""Waiting for several things at once, and for things that must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import TypeVar

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
