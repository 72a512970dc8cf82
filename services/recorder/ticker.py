"""Wakes at every tick of a schedule: a kernel timer that the event loop watches.

asyncio's own timers wake up to a millisecond late, because epoll counts milliseconds: at 200 Hz half of the ticks began more
than 0.6 ms late, with a timerfd 0.06 ms. It costs no more than a timer of the loop, and no spinning. Python has no name for
timerfd before 3.13, hence ctypes; where the system has none (macOS), the loop's timers remain.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.recorder.timing import NS_PER_S, Schedule, Tick

OnTick = Callable[[Tick], None]

_CLOCK_MONOTONIC = 1
_ABSOLUTE_TIME = 1
_NUM_COUNTER_BYTES = 8


class _Moment(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSetting(ctypes.Structure):
    _fields_ = (("interval", _Moment), ("expiry", _Moment))


class KernelTimer:
    """A timerfd that calls back once at a time that is set.

    Args:
        on_expiry: called by the loop.

    Raises:
        OSError: the system has no such timers.
    """

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self._on_expiry = on_expiry
        self._library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._library, "timerfd_create"):
            raise OSError("this system has no timerfd")
        self._fd = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._setting = _TimerSetting()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_readable)

    def set(self, at_ns: int) -> None:
        """Expire at a time of the monotonic clock; at once if it has passed."""
        expiry = self._setting.expiry
        expiry.seconds, expiry.nanoseconds = divmod(at_ns, NS_PER_S)
        if self._library.timerfd_settime(self._fd, _ABSOLUTE_TIME, ctypes.byref(self._setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Expire never again."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _on_readable(self) -> None:
        os.read(self._fd, _NUM_COUNTER_BYTES)
        self._on_expiry()


class LoopTimer:
    """The same by the event loop's own timers, up to a millisecond later."""

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self._on_expiry = on_expiry
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        """Expire at a time of the monotonic clock; at once if it has passed."""
        self._handle = self._loop.call_at(at_ns / NS_PER_S, self._on_expiry)

    def close(self) -> None:
        """Expire never again."""
        if self._handle is not None:
            self._handle.cancel()


TimerMaker = Callable[[Callable[[], None]], KernelTimer | LoopTimer]


def best_timer(on_expiry: Callable[[], None]) -> KernelTimer | LoopTimer:
    """Return the more punctual of the timers that this system has."""
    try:
        return KernelTimer(on_expiry)
    except OSError:
        return LoopTimer(on_expiry)


@contextmanager
def ticking(*, rate_hz: float, on_tick: OnTick, timer_maker: TimerMaker = best_timer) -> Iterator[Schedule]:
    """Call back at every tick within the block, the first one period from now; needs a running loop.

    Args:
        rate_hz: ticks per second.
        on_tick: called by the loop.
        timer_maker: which timer wakes.
    """
    schedule = Schedule(start_ns=time.monotonic_ns(), rate_hz=rate_hz)
    index = 1

    def on_expiry() -> None:
        nonlocal index
        tick = schedule.begun(index, now_ns=time.monotonic_ns())
        index += 1 + tick.num_missed
        timer.set(schedule.due_ns(index))
        on_tick(tick)

    timer = timer_maker(on_expiry)
    timer.set(schedule.due_ns(index))
    try:
        yield schedule
    finally:
        timer.close()
