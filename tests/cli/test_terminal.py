"""The terminal of a recording, on a real pseudo-terminal and on a pipe."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from cli.terminal import Terminal
from services.recorder.session import Key


@pytest.fixture
def screen() -> Iterator[tuple[int, TextIO]]:
    """Give the outer end of a pseudo-terminal, and its inner end as a text file."""
    outer, inner = pty.openpty()
    with os.fdopen(inner, "r+b", buffering=0) as raw, io.TextIOWrapper(raw, write_through=True) as text:
        yield outer, text
    os.close(outer)


def shown(outer: int) -> str:
    return os.read(outer, 65536).decode()


async def test_keys_come_at_once_and_unseen_and_the_terminal_is_as_it_was_afterwards(screen: tuple[int, TextIO]) -> None:
    outer, text = screen
    before = termios.tcgetattr(text.fileno())
    with Terminal(keyboard=text.fileno(), output=text) as terminal:
        os.write(outer, b"\x1b[Cr\x1b")
        async with asyncio.timeout(5):
            keys = [await terminal.key() for _ in range(3)]
        text.write("end")

    assert keys == [Key.NEXT, Key.REDO, Key.STOP]
    assert shown(outer) == "end"
    assert termios.tcgetattr(text.fileno()) == before


async def test_the_status_line_stays_below_what_is_told(screen: tuple[int, TextIO]) -> None:
    outer, text = screen
    with Terminal(keyboard=None, output=text) as terminal:
        terminal.show("recording 1/2")
        terminal.show("recording 1/2")
        terminal.tell("saved")

    assert shown(outer) == "\r\x1b[Krecording 1/2\r\x1b[Ksaved\r\nrecording 1/2\r\x1b[K"


async def test_without_a_terminal_only_lines_are_printed() -> None:
    text = io.StringIO()
    with Terminal(keyboard=None, output=text) as terminal:
        terminal.show("recording 1/2")
        terminal.say("Reset the environment")

    assert text.getvalue() == "Reset the environment\n"


async def test_a_pipe_that_ends_presses_no_key() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"n")
    os.close(writing)
    with Terminal(keyboard=reading, output=io.StringIO()) as terminal:
        async with asyncio.timeout(5):
            first = await terminal.key()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await terminal.key()
    os.close(reading)

    assert first is Key.NEXT


async def test_cues_are_said_aloud_and_waited_for_at_the_end(tmp_path: Path) -> None:
    spoken = tmp_path / "spoken"
    script = "import sys, time; time.sleep(0.1); open(sys.argv[1], 'a').write(sys.argv[2])"
    with Terminal(keyboard=None, output=io.StringIO(), speaker=[sys.executable, "-c", script, str(spoken)]) as terminal:
        terminal.say("Stop recording")
        terminal.tell("saved")

    assert spoken.read_text() == "Stop recording"


async def test_a_program_that_speaks_for_ever_is_not_waited_for(tmp_path: Path) -> None:
    speaker = [sys.executable, "-c", "import time; time.sleep(60)"]
    begun_s = time.monotonic()
    with Terminal(keyboard=None, output=io.StringIO(), speaker=speaker) as terminal:
        terminal.say("Recording episode 1/2")
        terminal.say("Stop recording")

    assert time.monotonic() - begun_s < 20


async def test_whoever_stops_reading_has_left_the_robot() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output, Terminal(keyboard=None, output=output) as terminal:
        terminal.tell("saved")
        terminal.tell("announced")
        async with asyncio.timeout(5):
            key = await terminal.key()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await terminal.key()

    assert key is Key.INTERRUPT
