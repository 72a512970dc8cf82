"""A service as the stock ``nats`` tool sees it: ``nats micro ls``, ``info``, ``stats``, ``ping``.

Decides the service's name, what it tells about itself, and the answer of its endpoint ``status``. The protocol itself is
nats-py's; its door is ``connection``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

from shared.connection import Connection
from shared.permissions import STATUS_SUBJECT, micro_name
from shared.registration import Endpoint, Identity, Registered
from shared.version import VERSION


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint ``status`` answers as JSON: who, where, and how many messages ended how."""

    service: str
    host: str
    version: str
    counts: dict[str, int]


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Which service this is.

    Attributes:
        service: ``converter``, ``uploader``, …; registered as ``episodeflow-converter``.
        sources: whose episodes it serves.
        spool: the spool it fills or empties; None if it knows none.
    """

    service: str
    sources: tuple[str, ...] = ()
    spool: str | None = None


class Microservice:
    """A registered service; use it as a context. Where it may not register, the log says so and the service goes on.

    Args:
        connection: to the bus.
        about: who we are.
        counts: asked at every request for how many messages ended how.
    """

    def __init__(self, connection: Connection, about: About, *, counts: Callable[[], dict[str, int]]) -> None:
        self._connection = connection
        self._about = about
        self._counts = counts
        self._host = socket.gethostname()
        self._registered: Registered | None = None

    async def __aenter__(self) -> Self:
        about = self._about
        metadata = {"host": self._host, "sources": ",".join(about.sources), "spool": about.spool or ""}
        identity = Identity(
            name=micro_name(about.service),
            version=VERSION,
            description=f"episodeflow {about.service}",
            metadata={key: value for key, value in metadata.items() if value},
        )
        status = Endpoint(name="status", subject=f"{STATUS_SUBJECT}.{about.service}", answer=self._status)
        self._registered = await self._connection.register(identity, [status])
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._registered:
            await self._registered.end()

    async def _status(self, _: bytes) -> bytes:
        status = Status(service=self._about.service, host=self._host, version=VERSION, counts=self._counts())
        return msgspec.json.encode(status)
