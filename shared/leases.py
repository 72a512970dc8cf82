"""Leases: at most one process at a time, on whatever host, may change a thing that has a name.

Theory of operation. A lease is one key of a JetStream key-value bucket, whose messages the server forgets after the bucket's
age limit. Every change is a compare-and-set on the key's last sequence number, so the server decides who has it:

- taken by writing where nothing is, or where the last holder left its farewell; an empty body is the farewell;
- kept by writing again every third of the age limit; a holder that died, or is cut off, is forgotten by the server;
- awaited by listening to the key's subject: the farewell reaches everybody who waits.

The holder counts its time from before each of its writes was sent, the server from after it arrived: the holder always
believes itself poorer than it is. ``check`` says, without asking anybody, whether at least a third of the time is left:
call it right before the step that cannot be undone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from weakref import WeakValueDictionary

import msgspec

from shared import logs
from shared.bus import Bus
from shared.connection import Incoming
from shared.errors import BusUnavailable, EpisodeflowError, Refused, Retryable
from shared.permissions import leases_prefix, leases_stream

_log = logs.logger("leases")

LEASE_S = 10.0
"""How long a lease outlives a holder that died: long against a pause of the server, short for everybody who waits."""

PATIENCE_S = 20.0
"""How long an uploader waits for a lease before it gives its message back."""

_ANSWER_TIMEOUT_S = 5.0
_PAUSE_S = 0.25
_TICK_S = 0.001
_WRONG_SEQUENCE = 10071
_NO_MESSAGE = 10037
_NOT_FOUND = 404
_MAY_HEAL = 429
_FAREWELL = {"KV-Operation": "DEL"}


class DatasetBusy(Retryable):
    """Somebody else holds the lease, or ours was lost: nothing has changed, the work is tried again."""


class Entry(msgspec.Struct, frozen=True):
    """The last message of a key: its sequence number (0: there is none) and who holds it (None: nobody)."""

    revision: int
    holder: str | None


class Key:
    """One key of the bucket.

    Args:
        bus: the connection, and the stream whose bucket it is.
        name: of the thing.
        timeout_s: how long an answer may take.
    """

    def __init__(self, bus: Bus, name: str, *, timeout_s: float) -> None:
        self.name = name
        # A dot would divide the subject, and nothing between two dots is no subject at all.
        self.subject = f"{leases_prefix(bus.config.stream)}.{name.replace('.', '=2E')}"
        self._stream = leases_stream(bus.config.stream)
        self._bus = bus
        self._timeout_s = timeout_s

    async def entry(self) -> Entry:
        """Return what the key says now.

        Raises:
            BusUnavailable: the server does not answer.
            Refused: no permission, or there is no bucket.
        """
        answer = await self._asked(f"$JS.API.STREAM.MSG.GET.{self._stream}", msgspec.json.encode({"last_by_subj": self.subject}), {})
        problem = answer.get("error")
        if problem is None:
            return Entry(answer["message"]["seq"], b64decode(answer["message"].get("data", "")).decode() or None)
        if problem.get("err_code") == _NO_MESSAGE:
            return Entry(0, None)
        raise self._problem(problem)

    async def set(self, holder: str | None, *, revision: int) -> int | None:
        """Write the holder, or the farewell, if ``revision`` is still the last one; return the new one, or None if it is not.

        Raises:
            BusUnavailable, Refused: as ``entry``.
        """
        headers = {"Nats-Expected-Last-Subject-Sequence": str(revision)} | (_FAREWELL if holder is None else {})
        answer = await self._asked(self.subject, (holder or "").encode(), headers)
        problem = answer.get("error")
        if problem is None:
            return int(answer["seq"])
        if problem.get("err_code") == _WRONG_SEQUENCE:
            return None
        raise self._problem(problem)

    @asynccontextmanager
    async def farewells(self) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set whenever a holder says farewell.

        Raises:
            BusUnavailable: the connection is closed.
        """
        said = asyncio.Event()

        def take(incoming: Incoming) -> None:
            if not incoming.body:
                said.set()

        listening = await self._bus.connection.subscribe(self.subject, take)
        try:
            yield said
        finally:
            await listening.end(drain=False)

    async def _asked(self, subject: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
        answer = await self._bus.connection.ask(subject, body, timeout_s=self._timeout_s, headers=headers or None)
        decoded: dict[str, Any] = msgspec.json.decode(answer)
        return decoded

    def _problem(self, problem: dict[str, Any]) -> EpisodeflowError:
        sentence = f"the leases in {self._stream}: {problem.get('description', 'refused')} (code {problem.get('code')})"
        if problem.get("code") == _NOT_FOUND:
            return Refused(f"{sentence}: run `episodeflow provision`")
        return BusUnavailable(sentence) if problem.get("code", 500) >= _MAY_HEAL else Refused(sentence)


class Lease:
    """A lease, held or not; ``check`` may be called from any thread.

    Args:
        key: of the thing.
        lease_s: the bucket's age limit.
    """

    def __init__(self, key: Key, *, lease_s: float) -> None:
        self._key = key
        self._lease_s = lease_s
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._revision = 0
        self._valid_until_s = 0.0

    @property
    def remaining_s(self) -> float:
        """How long it is certainly ours."""
        return max(0.0, self._valid_until_s - time.monotonic())

    def check(self) -> None:
        """Return if there is time enough to do something that cannot be undone.

        Raises:
            DatasetBusy: less than a third of the time is left, or it is lost.
        """
        if self._spare_s < 0:
            raise DatasetBusy(f"{self._key.name}: the lease could not be renewed in time, another host may have it: it is tried again")

    async def slipping(self) -> NoReturn:
        """Wait until it slips away.

        Raises:
            DatasetBusy: as ``check``, as soon as that would.
        """
        while True:
            self.check()
            await asyncio.sleep(self._spare_s + _TICK_S)

    @property
    def _spare_s(self) -> float:
        return self.remaining_s - self._lease_s / 3

    async def take(self) -> bool:
        """Take it, or once more if it is ours; return whether it is ours now.

        Raises:
            BusUnavailable, Refused: see ``Key.entry``.
        """
        entry = await self._key.entry()
        return entry.holder in {None, self._holder} and await self._written(entry.revision)

    async def keep(self) -> None:
        """Renew it until cancelled, or until it is lost."""
        pause_s = self._lease_s / 3
        while True:
            await asyncio.sleep(pause_s)
            pause_s = self._lease_s / 3
            try:
                # The answer to an earlier write may have been lost: then the last one is ours all the same.
                if not await self._written(self._revision) and not await self.take():
                    self._valid_until_s = 0.0
                    _log.warning("lease.lost", dataset=self._key.name)
                    return
            except EpisodeflowError as error:
                _log.debug("lease.unrenewed", dataset=self._key.name, error=str(error))
                pause_s = min(_PAUSE_S, pause_s)

    async def end(self) -> None:
        """Give it up and say farewell; if that gets lost, the server forgets the lease by itself."""
        self._valid_until_s = 0.0
        try:
            await self._key.set(None, revision=self._revision)
        except EpisodeflowError as error:
            _log.debug("lease.unreleased", dataset=self._key.name, error=str(error))

    async def _written(self, revision: int) -> bool:
        sent_s = time.monotonic()
        written = await self._key.set(self._holder, revision=revision)
        if written is not None:
            self._revision, self._valid_until_s = written, sent_s + self._lease_s
        return written is not None


class Leases:
    """The leases of one stream's bucket, which ``provision`` made.

    Args:
        bus: the connection, and the stream whose bucket it is.
        lease_s: the bucket's age limit.
        patience_s: how long to wait for a lease that somebody else holds.
    """

    def __init__(self, bus: Bus, *, lease_s: float = LEASE_S, patience_s: float = PATIENCE_S) -> None:
        self._bus = bus
        self._lease_s = lease_s
        self._patience_s = patience_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def holding(self, name: str) -> AsyncIterator[Lease]:
        """Hold the lease on ``name`` inside the block; tasks of this process wait for each other.

        Raises:
            DatasetBusy: somebody else holds it for longer than the patience.
            BusUnavailable, Refused: see ``Key.entry``.
        """
        lock = self._locks.setdefault(name, asyncio.Lock())
        async with lock:
            key = Key(self._bus, name, timeout_s=min(_ANSWER_TIMEOUT_S, self._lease_s / 3))
            lease = Lease(key, lease_s=self._lease_s)
            await self._taken(key, lease)
            keeping = asyncio.create_task(lease.keep())
            try:
                yield lease
            finally:
                keeping.cancel()
                await asyncio.wait({keeping})
                await lease.end()

    async def _taken(self, key: Key, lease: Lease) -> None:
        try:
            async with key.farewells() as farewell, asyncio.timeout(self._patience_s):
                while not await lease.take():
                    await _set_within(farewell, self._lease_s / 10)  # a holder that died says no farewell
                    farewell.clear()
        except TimeoutError as error:
            raise DatasetBusy(
                f"{key.name}: another uploader has been committing into it for {self._patience_s:g} s: it is tried again"
            ) from error


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return  # somebody may have died meanwhile: the key says
