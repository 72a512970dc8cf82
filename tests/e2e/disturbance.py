"""A proxy between services and an S3 server that misbehaves on request: slow, 500, 503, cut before or after the deed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from types import TracebackType
from typing import Literal, Self

Fault = Literal["slow", "500", "503", "cut before", "cut after"]
FAULTS: tuple[Fault, ...] = ("slow", "500", "503", "cut before", "cut after")

_SLOW_S = 0.5
_CUT_AFTER_BYTES = 40
_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>asked to by the test</Message></Error>"
_NAMES = {"500": (b"Internal Server Error", b"InternalError"), "503": (b"Service Unavailable", b"SlowDown")}


class FaultyProxy:
    """Passes one HTTP request per connection on to ``target_port`` of this host, unless a fault is due.

    Args:
        target_port: where the real server listens.
        seed: of the dice.

    Attributes:
        share: of the requests that suffer, 0 to 1.
        counts: faults done, by kind.
    """

    def __init__(self, target_port: int, *, seed: int) -> None:
        self._target_port = target_port
        self._dice = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.share = 0.0
        self.counts: Counter[str] = Counter()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # either side went away: so does the other
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            await _closed(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fault = self._dice.choice(FAULTS) if self._dice.random() < self.share else None
        if fault:
            self.counts[fault] += 1
        if fault in _NAMES:
            await _refuse(head, reader, writer, status=fault)
        elif fault == "cut before":
            writer.transport.abort()
        else:
            if fault == "slow":
                await asyncio.sleep(_SLOW_S)
            await self._passed(head, reader, writer, limit_bytes=_CUT_AFTER_BYTES if fault == "cut after" else None)

    async def _passed(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limit_bytes: int | None) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        sending: asyncio.Task[None] | None = None
        try:
            to_writer.write(_closing(head))
            sending = asyncio.create_task(_pumped(reader, to_writer))
            if limit_bytes is None:
                await _pumped(to_reader, writer)
            else:  # the server has done it, and nobody hears so
                answer = await to_reader.read(limit_bytes)
                while answer.startswith(b"HTTP/1.1 100"):
                    writer.write(answer)
                    answer = await to_reader.read(limit_bytes)
                writer.transport.abort()
        finally:
            if sending:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            await _closed(to_writer)


def _closing(head: bytes) -> bytes:
    """Ask the server to hang up after its answer, so that every request passes the dice."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n"


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()


async def _refuse(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, status: str) -> None:
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
    if b"expect" not in fields:
        await reader.readexactly(int(fields.get(b"content-length", b"0")))
    reason, code = _NAMES[status]
    body = b"" if head.startswith(b"HEAD") else _ERROR % code
    fixed = b"Content-Type: application/xml\r\nConnection: close\r\n"
    writer.write(b"HTTP/1.1 %s %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status.encode(), reason, fixed, len(body), body))
    await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
