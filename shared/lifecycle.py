"""A service's life: signals, what it opens, how it ends, and its last log line.

The first SIGINT, SIGTERM or SIGQUIT sets ``stopping``: the service takes no more work and ends within its grace. The
second one ends the process at once. A connection that breaks (SIGHUP) asks for the same as the first, as often as it
comes, and insists on nothing; who started the process with ``nohup`` wants to hear of neither SIGHUP nor, in the
background of a script, SIGQUIT. What a service opened is closed in reverse.

A process that ends at once cleans up nothing, but for what must not be left to itself: see ``at_forced_exit``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, contextmanager

import msgspec

from shared import logs
from shared.errors import EpisodeflowError

_log = logs.logger("service")

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
"""Somebody wants the process to end; once more, and it is to end now."""
_IGNORABLE = frozenset({signal.SIGHUP, signal.SIGQUIT})
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

ServiceMain = Callable[[asyncio.Event, AsyncExitStack], Awaitable[object]]
"""A service's story: runs until ``stopping`` is set, opens on the stack, returns its counts (a struct or a mapping)."""

_last_deeds: list[Callable[[], None]] = []


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
            sentences = "; ".join([str(error), *getattr(error, "__notes__", ())])
            _log.error("service.failed", service=service, error=sentences, error_type=type(error).__name__)
            return EXIT_FAILED
        _log.info("service.stopped", service=service, counts=msgspec.to_builtins(counts), duration_s=round(time.monotonic() - started_s, 3))
    return 0


@contextmanager
def stopped_by_signals(stopping: asyncio.Event) -> Iterator[None]:
    """Inside the block, let the first signal set ``stopping`` and the second end the process at once; SIGHUP only asks."""
    is_asked = False

    def on_signal(number: signal.Signals) -> None:
        nonlocal is_asked
        if is_asked and number != signal.SIGHUP:
            # Somebody insists: no clean-up, whatever was in flight is delivered again.
            leave_at_once()
        is_asked = is_asked or number != signal.SIGHUP
        if not stopping.is_set():
            _log.info("service.stopping", signal=number.name)
            stopping.set()

    with handled_signals(dict.fromkeys((*ASKING, signal.SIGHUP), on_signal)):
        yield


@contextmanager
def handled_signals(handlers: Mapping[signal.Signals, Callable[[signal.Signals], None]]) -> Iterator[None]:
    """Inside the block, hand signals to the running loop; SIGHUP and SIGQUIT stay ignored if whoever started us ignores them."""
    loop = asyncio.get_running_loop()
    heard = [number for number in handlers if number not in _IGNORABLE or signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        loop.add_signal_handler(number, handlers[number], number)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


@contextmanager
def at_forced_exit(deed: Callable[[], None]) -> Iterator[None]:
    """Inside the block, do one thing before this process leaves at once; it has to be short, and waits for nobody."""
    _last_deeds.append(deed)
    try:
        yield
    finally:
        _last_deeds.remove(deed)


def leave_at_once() -> None:
    """End the process without cleaning up, after what ``at_forced_exit`` asks for; the same deed is done once."""
    with ExitStack() as stack:
        stack.callback(os._exit, EXIT_INTERRUPTED)  # the first is called last, even if a deed fails
        for deed in dict.fromkeys(_last_deeds):
            stack.callback(deed)
