"""Real-time priority, on hosts that permit it and on those that do not."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.recorder.priority import real_time_priority

T = TypeVar("T")


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def in_a_thread(deed: Callable[[], T]) -> T:
    """Return what a deed returns in a fresh thread, whose priority is ordinary."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(deed).result()


def test_the_thread_has_it_within_the_block_exactly_if_it_is_permitted() -> None:
    def deed() -> tuple[bool, int, int]:
        with real_time_priority() as is_permitted:
            within = policy()
        return is_permitted, within, policy()

    is_permitted, within, after = in_a_thread(deed)

    assert (within == os.SCHED_FIFO) is is_permitted
    assert after == os.SCHED_OTHER


def test_blocks_that_overlap_give_it_back_with_the_last_one() -> None:
    def deed() -> tuple[bool, int, int]:
        first, second = real_time_priority(), real_time_priority()
        is_permitted = first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        between = policy()
        second.__exit__(None, None, None)
        return is_permitted, between, policy()

    is_permitted, between, after = in_a_thread(deed)

    assert (between == os.SCHED_FIFO) is is_permitted
    assert after == os.SCHED_OTHER


def test_threads_and_processes_that_start_within_do_not_inherit_it() -> None:
    found: list[int] = []
    with real_time_priority():
        thread = threading.Thread(target=lambda: found.append(policy()))
        thread.start()
        thread.join()
        child = subprocess.run([sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"], capture_output=True, check=True)
        found.append(int(child.stdout))

    assert found == [os.SCHED_OTHER, os.SCHED_OTHER]


def test_without_permission_nothing_changes() -> None:
    program = (
        "import os, resource\n"
        "from services.recorder.priority import real_time_priority\n"
        "resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))\n"
        "os.getuid() or os.setuid(65534)\n"
        "with real_time_priority() as is_permitted:\n"
        "    print(is_permitted, os.sched_getscheduler(0) == os.SCHED_OTHER)\n"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    assert found.stdout.split() == ["False", "True"]
