"""Real-time priority, on hosts that permit it and on those that do not."""

import os
import subprocess
import sys
import threading

from services.recorder.priority import real_time_priority


def policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def test_the_thread_has_it_within_the_block_exactly_if_it_is_permitted() -> None:
    before = policy()
    with real_time_priority() as is_permitted:
        within = policy()

    assert (within == os.SCHED_FIFO) is is_permitted
    assert policy() == before != os.SCHED_FIFO


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
