"""A service's life, in processes of its own: signals end what they hit."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

_SERVICE = """
import asyncio, sys
from shared import lifecycle, logs
from shared.config import LoggingConfig
from shared.errors import Refused

async def main(stopping, stack):
    stack.callback(lambda: print("closed", flush=True))
    print("ready", flush=True)
    {story}
    return {{"done": 3}}

logging = logs.Logging.configure(LoggingConfig(format="json"))
code = lifecycle.run(main, service="tester")
logging.close()
sys.exit(code)
"""


@asynccontextmanager
async def service(story: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _SERVICE.format(story=story), stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def lines(log: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_first_signal_lets_the_service_end_close_and_report_its_counts(number: signal.Signals) -> None:
    async with service("await stopping.wait()") as process:
        process.send_signal(number)
        out, log = await asyncio.wait_for(process.communicate(), 20)

    last = lines(log)[-1]
    assert process.returncode == 0
    assert out == b"closed\n"
    assert (last["event"], last["service"], last["counts"]) == ("service.stopped", "tester", {"done": 3})


async def test_second_signal_ends_the_process_at_once() -> None:
    async with service("await stopping.wait(); print('stopping', flush=True); await asyncio.Event().wait()") as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        assert await process.stdout.readline() == b"stopping\n"
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 130
    assert out == b""


async def test_error_of_the_tree_is_one_log_line_and_a_failing_exit_code() -> None:
    async with service("raise Refused('no stream')") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 1
    assert [(line["event"], line.get("error")) for line in lines(log)][-1] == ("service.failed", "no stream")


async def test_programmers_mistake_crashes_with_its_traceback() -> None:
    async with service("raise ValueError('oops')") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 1
    assert b"Traceback" in log
