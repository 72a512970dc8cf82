"""The person at a terminal while `record` runs: lines and one moving status line out, keys in, words to a loudspeaker.

Keys come from the terminal itself, so they work over SSH and without a display; where the input is a pipe, its letters count.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import termios
import tty
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TextIO

from services.recorder.keys import LONGEST_SEQUENCE_S, KeyReader
from services.recorder.session import Key

_SPEAKERS = (("spd-say", ["spd-say", "--wait"]), ("say", ["say"]), ("espeak", ["espeak"]))
_CLEAR_LINE = "\r\x1b[K"


class Terminal:
    """A terminal, or whatever stands in its place; use it as a context: on the way out it is as it was.

    Args:
        keyboard: descriptor that keys come from; None: nobody presses any.
        output: where lines go.
        speaker: command that says aloud what is given to it; None: nothing is spoken.
    """

    def __init__(self, *, keyboard: int | None, output: TextIO, speaker: Sequence[str] | None = None) -> None:
        self._input = keyboard
        self._output = output
        self._is_tty = output.isatty()
        self._shown = ""
        self._saved: list[Any] | None = None
        self._reader = KeyReader()
        self._keys: asyncio.Queue[Key] = asyncio.Queue()
        self._settling: asyncio.TimerHandle | None = None
        self._speaker = speaker
        self._speaking: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        if self._input is not None:
            self._open(self._input)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.show("")
        if self._settling:
            self._settling.cancel()
        if self._input is not None:
            asyncio.get_running_loop().remove_reader(self._input)
            if self._saved is not None:
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._saved)
        for process in self._speaking:
            process.wait()

    def say(self, text: str) -> None:
        """Print a text and say it aloud."""
        self.tell(text)
        if self._speaker:
            self._speaking = [process for process in self._speaking if process.poll() is None]
            self._speaking.append(
                subprocess.Popen([*self._speaker, text], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            )

    def tell(self, text: str) -> None:
        """Print a text on a line of its own."""
        self._output.write(f"{_CLEAR_LINE if self._shown else ''}{text}\n{self._shown}")
        self._output.flush()

    def show(self, text: str) -> None:
        """Replace the line that shows how things are; nowhere but on a terminal, where it can be replaced."""
        if self._is_tty and text != self._shown:
            width = shutil.get_terminal_size().columns - 1
            self._shown = text[:width]
            self._output.write(f"{_CLEAR_LINE}{self._shown}")
            self._output.flush()

    async def key(self) -> Key:
        """Wait for the next key."""
        return await self._keys.get()

    def _open(self, descriptor: int) -> None:
        if os.isatty(descriptor):
            self._saved = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)  # keys at once and unseen; Ctrl-C stays a signal
        try:
            asyncio.get_running_loop().add_reader(descriptor, self._on_bytes, descriptor)
        except PermissionError:
            self._input = None  # a regular file is no keyboard

    def _on_bytes(self, descriptor: int) -> None:
        data = os.read(descriptor, 1024)
        if not data:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._take(self._reader.feed(data))
        if self._settling:
            self._settling.cancel()
        if self._reader.is_waiting:
            self._settling = asyncio.get_running_loop().call_later(LONGEST_SEQUENCE_S, lambda: self._take(self._reader.settle()))

    def _take(self, keys: list[Key]) -> None:
        for key in keys:
            self._keys.put_nowait(key)


def own_terminal(*, is_spoken: bool) -> Terminal:
    """Return the terminal of this process; ``is_spoken``: cues are said aloud where the host can."""
    keyboard = sys.stdin.fileno() if sys.stdin and not sys.stdin.closed else None
    return Terminal(keyboard=keyboard, output=sys.stdout, speaker=host_speaker() if is_spoken else None)


def host_speaker() -> list[str] | None:
    """Return the command that speaks a text on this host, None if there is none."""
    return next((command for program, command in _SPEAKERS if shutil.which(program)), None)
