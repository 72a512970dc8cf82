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
import asyncio, signal, sys
from shared import lifecycle, logs
from shared.config import LoggingConfig
from shared.errors import Refused

async def main(stopping, stack):
    stack.callback(lambda: print("closed", flush=True))
    print("ready", flush=True)
    {story}
    return {{"done": 3}}

{before}
logging = logs.Logging.configure(LoggingConfig(format="json"))
code = lifecycle.run(main, service="tester")
logging.close()
sys.exit(code)
"""


@asynccontextmanager
async def service(story: str, *, before: str = "") -> AsyncIterator[Process]:
    script = _SERVICE.format(story=story, before=before)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdin=PIPE, stdout=PIPE, stderr=PIPE)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP])
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


async def test_what_must_not_be_left_to_itself_is_done_once_before_leaving_at_once() -> None:
    deeds = "import contextlib; stack = contextlib.ExitStack(); deed = lambda: print('deed', flush=True)\n"
    deeds += "    for each in (deed, deed, lambda: 1 / 0): stack.enter_context(lifecycle.at_forced_exit(each))\n"
    deeds += "    with lifecycle.at_forced_exit(lambda: print('over', flush=True)): pass\n"
    async with service(deeds + "    await stopping.wait(); print('stopping', flush=True); await asyncio.Event().wait()") as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        assert await process.stdout.readline() == b"stopping\n"
        process.send_signal(signal.SIGTERM)
        out, _ = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 130
    assert out == b"deed\n"


async def test_a_connection_that_breaks_asks_and_insists_on_nothing() -> None:
    signals = (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP)
    async with service("await stopping.wait(); print('stopping', flush=True); await asyncio.to_thread(sys.stdin.readline)") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        for number in signals:
            process.send_signal(number)
            await asyncio.sleep(0.05)
        process.stdin.write(b"\n")
        out, _ = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 0
    assert out == b"stopping\nclosed\n"


async def test_who_was_started_with_nohup_does_not_hear_that_the_connection_breaks() -> None:
    story = "await asyncio.to_thread(sys.stdin.readline); print(stopping.is_set(), flush=True)"
    async with service(story, before="signal.signal(signal.SIGHUP, signal.SIG_IGN)") as process:
        process.send_signal(signal.SIGHUP)
        out, _ = await asyncio.wait_for(process.communicate(b"\n"), 20)

    assert process.returncode == 0
    assert out == b"False\nclosed\n"


async def test_error_of_the_tree_is_one_log_line_and_a_failing_exit_code() -> None:
    async with service("error = Refused('no stream'); error.add_note('look at the server'); raise error") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 1
    assert [(line["event"], line.get("error")) for line in lines(log)][-1] == ("service.failed", "no stream; look at the server")


async def test_programmers_mistake_crashes_with_its_traceback() -> None:
    async with service("raise ValueError('oops')") as process:
        _, log = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 1
    assert b"Traceback" in log
