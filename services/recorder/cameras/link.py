"""The socket to the camera process, and that process: asking, hearing news, noticing its death, ending it.

Replies come in the order of the requests, so that a request whose caller was cancelled only leaves a reply that nobody
takes. The child has its own session: Ctrl-C in the terminal reaches only us, and the order of the shutdown is ours.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections import deque
from collections.abc import Callable
from typing import IO

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.messages import LENGTH_BYTES, Message, News, Problem, Refusal, Reply, Request, Status, answer, packed

_END_TIMEOUT_S = 6.0
_BUSY_END_TIMEOUT_S = 1.0
"""How long a child is waited for that is still busy with what nobody waits for any more."""

_MAX_UNSENT_BYTES = 64 * 1024
_NUM_LAST_LINES = 3
_LAST_BYTES = 4096
_MODULE = "services.recorder.cameras"


class Link:
    """A running camera process.

    Args:
        process: the child.
        reader: of our end of the socket.
        writer: of our end of the socket.
        on_news: called with what the child tells unasked.
        on_death: called with a sentence when the child ended unasked.
        errors: the file of the child's standard error. No pipe: a viewer that the child started holds it for longer than we live.
    """

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_news: Callable[[News], None],
        on_death: Callable[[str], None],
        errors: IO[bytes],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_news = on_news
        self._on_death = on_death
        self._replies: deque[asyncio.Future[Reply]] = deque()
        self._errors = errors
        self._death: str | None = None
        self._is_closing = False
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def opened(cls, *, on_news: Callable[[News], None], on_death: Callable[[str], None]) -> Link:
        """Start the camera process."""
        ours, theirs = socket.socketpair()
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - the link closes it
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", _MODULE, str(theirs.fileno())),
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=errors,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                errors.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        return cls(process, reader, writer, on_news=on_news, on_death=on_death, errors=errors)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def ask(self, request: Request) -> Reply:
        """Return the reply to a request.

        Raises:
            CameraRefused: what was asked for can never be done.
            CameraUnreachable: it cannot be done now, or the child is gone.
        """
        if self._death:
            raise CameraUnreachable(self._death)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies.append(future)
        self._writer.write(packed(request))
        reply = await future
        if isinstance(reply, Refusal):
            raise CameraRefused(reply.sentence) if reply.kind == "refused" else CameraUnreachable(reply.sentence)
        return reply

    def post(self, message: Message) -> bool:
        """Send a message that has no reply, unless the child is gone or behind; return whether it was sent."""
        if self._death or self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            return False
        self._writer.write(packed(message))
        return True

    async def close(self) -> None:
        """Have the child end, and kill it if it does not within six seconds, or one if it is busy."""
        self._is_closing = True
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), _BUSY_END_TIMEOUT_S if self._replies else _END_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        finally:
            await self._listening
            self._errors.close()

    async def _listen(self) -> None:
        """Take what the child says until it ends."""
        try:
            while True:
                length = await self._reader.readexactly(LENGTH_BYTES)
                self._take(answer(await self._reader.readexactly(int.from_bytes(length, "big"))))
        except (asyncio.IncompleteReadError, ConnectionError):
            self._die(await self._process.wait())
        finally:
            self._writer.close()

    def _take(self, message: Reply | News) -> None:
        if isinstance(message, Status | Problem):
            self._on_news(message)
            return
        future = self._replies.popleft()
        if not future.done():
            future.set_result(message)

    def _die(self, exit_code: int) -> None:
        self._death = f"the process that reads the cameras ended with status {exit_code}{self._last_words()}; start the recorder again"
        for future in self._replies:
            if not future.done():
                future.set_exception(CameraUnreachable(self._death))
        self._replies.clear()
        if not self._is_closing:
            self._on_death(self._death)

    def _last_words(self) -> str:
        """Return the end of what the child wrote to its standard error, as the middle of a sentence."""
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _LAST_BYTES))
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        return f" ({' | '.join(lines[-_NUM_LAST_LINES:])})" if lines else ""
