"""A few workers at one heap of work: the first failure ends all of them, and is raised itself.

No task group: that of Python 3.11 forgets a cancellation for a failure at the same moment, and after a failure leaves its
own task counted as cancelled, which loops that go on after an outage must not be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


async def work_together(work: Callable[[], Coroutine[Any, Any, None]], *, num_workers: int) -> None:
    """Run ``work`` several times at once, and return when every one has returned.

    Args:
        work: takes from the heap until it is empty.
        num_workers: how many at once; with 0 nothing happens.

    Raises:
        Exception: the first one that a worker raised: one cause is enough, and what it is decides whether we try again.
    """
    workers = [asyncio.create_task(work()) for _ in range(num_workers)]
    if not workers:
        return
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        failures = [failure for worker in workers if not worker.cancelled() and (failure := worker.exception()) is not None]
    if failures:
        raise failures[0]
