"""A service's life: signals, what it opens, how it ends, and its last log line.

The first SIGINT or SIGTERM sets ``stopping``: the service takes no more work and ends within its grace. The
second one ends the process at once. What a service opened is closed in reverse.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import msgspec

from shared import logs
from shared.errors import EpisodeflowError

_log = logs.logger("service")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

ServiceMain = Callable[[asyncio.Event, AsyncExitStack], Awaitable[object]]
"""A service's story: runs until ``stopping`` is set, opens on the stack, returns its counts (a struct or a mapping)."""


def run(main: ServiceMain, *, service: str) -> int:
    """Run a service until it ends by itself or by a signal, and return the exit code of its process.

    Args:
        main: the service's story.
        service: its name in the log.
    """
    return asyncio.run(_served(main, service))


async def _served(main: ServiceMain, service: str) -> int:
    stopping = asyncio.Event()
    started_s = time.monotonic()
    with stopped_by_signals(stopping):
        _log.info("service.started", service=service, pid=os.getpid())
        try:
            async with AsyncExitStack() as stack:
                counts = await main(stopping, stack)
        except EpisodeflowError as error:
            _log.error("service.failed", service=service, error=str(error), error_type=type(error).__name__)
            return EXIT_FAILED
        _log.info("service.stopped", service=service, counts=msgspec.to_builtins(counts), duration_s=round(time.monotonic() - started_s, 3))
    return 0


@contextmanager
def stopped_by_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Inside the block, let the first SIGINT or SIGTERM set ``stopping`` and the second end the process at once."""
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stopping.is_set():
            # Somebody insists: no clean-up, whatever was in flight is delivered again.
            os._exit(EXIT_INTERRUPTED)
        _log.info("service.stopping", signal=number.name)
        stopping.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
