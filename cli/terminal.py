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
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from services.recorder.keys import LONGEST_SEQUENCE_S, KeyReader
from services.recorder.session import Key

_SPEAKERS = (("spd-say", ["spd-say", "--wait"]), ("say", ["say"]), ("espeak", ["espeak"]))
_LAST_WORDS_S = 2.0
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
        self._speaking: subprocess.Popen[bytes] | None = None
        self._is_gone = False

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
        if self._speaking:
            try:
                self._speaking.wait(_LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                self._speaking.kill()
                self._speaking.wait()

    def say(self, text: str) -> None:
        """Print a text and say it aloud."""
        self.tell(text)
        if self._speaker:
            if self._speaking and self._speaking.poll() is None:
                self._speaking.kill()  # what is new matters more than the end of what is old
                self._speaking.wait()
            nowhere = subprocess.DEVNULL
            self._speaking = subprocess.Popen([*self._speaker, text], stdin=nowhere, stdout=nowhere, stderr=nowhere)

    def tell(self, text: str) -> None:
        """Print a text on a line of its own."""
        self._write(f"{_CLEAR_LINE if self._shown else ''}{text}\n{self._shown}")

    def show(self, text: str) -> None:
        """Replace the line that shows how things are; nowhere but on a terminal, where it can be replaced."""
        if self._is_tty and text != self._shown:
            width = shutil.get_terminal_size().columns - 1
            self._shown = text[:width]
            self._write(f"{_CLEAR_LINE}{self._shown}")

    def _write(self, text: str) -> None:
        """Write, as long as anybody reads; who has gone (a pipe that was closed) has left the robot alone, too."""
        try:
            self._output.write(text)
            self._output.flush()
        except OSError:
            if not self._is_gone:
                self._is_gone = True
                self._keys.put_nowait(Key.INTERRUPT)
                with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                    os.dup2(nowhere.fileno(), self._output.fileno())  # what is buffered must go somewhere, at the latest at the end

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
    output = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process, like the real one
    return Terminal(keyboard=keyboard, output=output, speaker=host_speaker() if is_spoken else None)


def host_speaker() -> list[str] | None:
    """Return the command that speaks a text on this host, None if there is none."""
    return next((command for program, command in _SPEAKERS if shutil.which(program)), None)
