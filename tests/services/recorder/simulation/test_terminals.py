"""A simulated bus behind a pseudo-terminal, as any program sees it."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from services.recorder.robots import transactions
from services.recorder.robots.packets import Packet, encoded
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.line import ServoLine
from services.recorder.simulation.servo import Servo
from services.recorder.simulation.terminals import ServoTerminal


@pytest.fixture
async def terminal() -> AsyncIterator[ServoTerminal]:
    running = ServoTerminal(ServoLine([Servo(1)]))
    yield running
    running.close()


async def heard(fd: int, num_bytes: int) -> bytes:
    return await asyncio.wait_for(asyncio.to_thread(lambda: b"".join(os.read(fd, 1) for _ in range(num_bytes))), 5)


async def test_bytes_go_through_unchanged_and_hosts_come_and_go(terminal: ServoTerminal) -> None:
    for _ in range(2):
        fd = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
        os.write(fd, transactions.ping(1).to_send)
        found = await heard(fd, 6)
        os.close(fd)

        assert found == encoded(Packet(1, 0))


async def test_a_slow_answer_comes_late_and_whole(terminal: ServoTerminal) -> None:
    terminal.line.faults = Faults(slow=50)
    fd = os.open(terminal.path, os.O_RDWR | os.O_NOCTTY)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    os.write(fd, transactions.ping(1).to_send)
    found = await heard(fd, 6)
    os.close(fd)

    assert found == encoded(Packet(1, 0))
    assert loop.time() - start_s >= 0.049


async def test_unplugging_takes_the_device_away_at_its_time() -> None:
    gone = ServoTerminal(ServoLine([Servo(1)], faults=Faults(unplug=0.01)))
    fd = os.open(gone.path, os.O_RDWR | os.O_NOCTTY)
    left = await asyncio.wait_for(asyncio.to_thread(_read_until_the_end, fd), 5)
    os.close(fd)

    assert left == b""
    gone.close()


def _read_until_the_end(fd: int) -> bytes:
    """Return what is read before the end; a vanished terminal ends with nothing or with an input error."""
    try:
        return os.read(fd, 1)
    except OSError:
        return b""


async def test_closing_twice_is_once_and_leaves_no_open_file() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    terminal = ServoTerminal(ServoLine([]))
    terminal.close()
    terminal.close()

    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
