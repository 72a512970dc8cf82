"""A pseudo-terminal with a simulated bus behind it: what a host opens like any serial port.

The terminal's own side of the device stays open here, so that hosts may come and go. Nothing emulates the wire's speed:
an answer leaves as soon as it is made, or after the delay that a fault asks for.
"""

from __future__ import annotations

import asyncio
import os
import tty

from services.recorder.simulation.line import Answer, ServoLine

_READ_BYTES = 4096


class ServoTerminal:
    """One port; needs a running loop.

    Args:
        line: the bus behind it.
    """

    def __init__(self, line: ServoLine) -> None:
        self.line = line
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._host_fd, self._device_fd = os.openpty()
        tty.setraw(self._device_fd)
        os.set_blocking(self._host_fd, False)
        self.path = os.ttyname(self._device_fd)
        self._is_open = True
        self._unplugging: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._host_fd, self._on_bytes)
        if line.faults.unplug is not None:
            self._unplugging = self._loop.call_later(line.faults.unplug, self.close)

    @property
    def now_s(self) -> float:
        """Seconds since the terminal was opened: the servos' time."""
        return self._loop.time() - self._start_s

    def close(self) -> None:
        """Unplug: the device goes away and its host sees the end; closing twice is once."""
        if not self._is_open:
            return
        self._is_open = False
        if self._unplugging is not None:
            self._unplugging.cancel()
        self._loop.remove_reader(self._host_fd)
        os.close(self._host_fd)
        os.close(self._device_fd)

    def _on_bytes(self) -> None:
        try:
            data = os.read(self._host_fd, _READ_BYTES)
        except BlockingIOError:
            return
        for answer in self.line.received(data, self.now_s):
            if answer.delay_s:
                self._loop.call_later(answer.delay_s, self._answer, answer)
            else:
                self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if not self._is_open:
            return
        try:
            os.write(self._host_fd, answer.data)
        except BlockingIOError:
            return  # the host reads nothing and its buffer is full: on a wire the bytes are lost as well
