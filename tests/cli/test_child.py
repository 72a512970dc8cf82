"""A supervised child process: started again with a growing delay, asked to end, killed after its grace."""

import asyncio
import os
import sys
from pathlib import Path

from cli.child import Child

_STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def child(tmp_path: Path, code: str, changes: list[int]) -> Child:
    return Child(
        "tester",
        [sys.executable, "-c", code],
        environ=dict(os.environ),
        log_path=tmp_path / "tester.log",
        on_change=lambda: changes.append(len(changes)),
    )


async def until_logged(supervised: Child, text: str, *, count: int = 1) -> None:
    async with asyncio.timeout(20):
        while True:
            if supervised.log_path.exists() and supervised.log_path.read_text().count(text) >= count:
                return
            await asyncio.sleep(0.01)


async def test_child_that_ends_is_started_again_until_stopped(tmp_path: Path) -> None:
    changes: list[int] = []
    supervised = child(tmp_path, "print('born')", changes)
    stopping = asyncio.Event()
    running = asyncio.create_task(supervised.run(stopping, grace_s=5))
    await until_logged(supervised, "born", count=3)
    stopping.set()
    await running

    assert supervised.restarts >= 2
    assert supervised.pid is None
    assert len(changes) >= 5


async def test_child_that_ignores_the_request_is_killed_after_its_grace(tmp_path: Path) -> None:
    supervised = child(tmp_path, _STUBBORN, [])
    stopping = asyncio.Event()
    running = asyncio.create_task(supervised.run(stopping, grace_s=0.2))
    await until_logged(supervised, "deaf")
    stopping.set()
    async with asyncio.timeout(10):
        await running

    assert supervised.pid is None
    assert supervised.restarts == 0


async def test_last_words_are_the_last_error_of_the_log(tmp_path: Path) -> None:
    supervised = child(tmp_path, "", [])
    nothing = supervised.last_words()
    supervised.log_path.write_text('{"event": "x", "error": "first"}\nerror: second\n{"event": "service.stopped"}\n')

    assert nothing == "it left no log"
    assert supervised.last_words() == "second"


async def test_log_is_private(tmp_path: Path) -> None:
    supervised = child(tmp_path, "print('born')", [])
    stopping = asyncio.Event()
    running = asyncio.create_task(supervised.run(stopping, grace_s=5))
    await until_logged(supervised, "born")
    stopping.set()
    await running

    assert supervised.log_path.stat().st_mode & 0o777 == 0o600
