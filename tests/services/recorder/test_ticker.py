"""The timers that wake the control loop."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest

from services.recorder.ticker import KernelTimer, LoopTimer, TimerMaker, best_timer, ticking
from services.recorder.timing import Tick

TIMERS = [KernelTimer, LoopTimer]
RATE_HZ = 500.0


def num_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def first_ticks(num_wanted: int, timer_maker: TimerMaker, *, block_s: float = 0.0) -> list[Tick]:
    """Return the first ticks; the first of them blocks the loop for a while."""
    ticks: list[Tick] = []
    is_enough = asyncio.Event()

    def on_tick(tick: Tick) -> None:
        ticks.append(tick)
        if len(ticks) == num_wanted:
            is_enough.set()
        if len(ticks) == 1:
            time.sleep(block_s)

    with ticking(rate_hz=RATE_HZ, on_tick=on_tick, timer_maker=timer_maker):
        async with asyncio.timeout(20):
            await is_enough.wait()
    return ticks[:num_wanted]


@pytest.mark.parametrize("timer_maker", TIMERS)
async def test_ticks_come_in_order_and_never_early(timer_maker: TimerMaker) -> None:
    ticks = await first_ticks(20, timer_maker)

    assert ticks[0].index == 1
    assert all(after.index == before.index + 1 + before.num_missed for before, after in pairwise(ticks))
    assert all(tick.late_ns > -1000 for tick in ticks)  # asyncio itself may be a nanosecond early


@pytest.mark.parametrize("timer_maker", TIMERS)
async def test_a_loop_that_was_busy_gives_up_the_ticks_that_passed(timer_maker: TimerMaker) -> None:
    ticks = await first_ticks(4, timer_maker, block_s=10 / RATE_HZ)

    assert sum(tick.num_missed for tick in ticks) >= 8
    assert ticks[-1].index == 4 + sum(tick.num_missed for tick in ticks[:-1])


@pytest.mark.parametrize("timer_maker", TIMERS)
async def test_nothing_ticks_and_no_file_is_open_after_the_block(timer_maker: TimerMaker) -> None:
    num_files = num_open_files()
    ticks: list[Tick] = []
    with ticking(rate_hz=1e6, on_tick=ticks.append, timer_maker=timer_maker):
        pass
    for _ in range(5):
        await asyncio.sleep(0)

    assert ticks == []
    assert num_open_files() == num_files


async def test_a_host_with_kernel_timers_uses_them() -> None:
    timer = best_timer(lambda: None)
    timer.close()

    assert isinstance(timer, KernelTimer)
