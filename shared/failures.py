"""Failures as they lie on the stream: reading them in order, and publishing an episode again.

Decides how much of the stream is read (from the first failure on, in portions) and which message id a republish has. What
the messages mean stands in ``causes``. Needs no Redis; leaves nothing behind on the server.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import datetime

from shared import events
from shared.bus import Bus
from shared.causes import UNREADABLE_ID, Failure, FailureLog
from shared.errors import BadEvent, Refused
from shared.events import EpisodeFailed, EpisodeReady
from shared.message import Receipt, Stored, StreamState

FAILED_SUBJECTS = "episode.failed.>"
ALL_SUBJECTS = "episode.>"

_PORTION = 128
_DEADLINE_S = 30.0


async def history(bus: Bus, *, first_seq: int, last_seq: int) -> AsyncIterator[Stored]:
    """Yield the messages from one number to another, in order, however many the stream still has.

    Asks for each message by its number, many at once: that takes nothing but the permission to look.

    Raises:
        Refused: no permission.
        BusUnavailable: the server is away.
    """
    for start in range(first_seq, last_seq + 1, _PORTION):
        portion = range(start, min(start + _PORTION, last_seq + 1))
        for stored in await asyncio.gather(*(bus.stored(seq) for seq in portion)):
            if stored is not None:
                yield stored


async def first_seq_since(bus: Bus, moment_s: float) -> int:
    """Return the number of the first message stored at or after a moment (seconds since the epoch), found by halving.

    Raises:
        Refused: no stream, or no permission.
        BusUnavailable: the server is away.
    """
    state = await _stream_state(bus)
    low, high = max(1, state.first_seq), state.last_seq + 1
    while low < high:
        middle = (low + high) // 2
        stored = await bus.stored(middle, next_on=ALL_SUBJECTS)
        if stored is None or stored_at_s(stored) >= moment_s:
            high = middle
        else:
            low = stored.seq + 1
    return low


def stored_at_s(stored: Stored) -> float:
    """Return when the server stored a message, in seconds since the epoch."""
    return datetime.fromisoformat(stored.time).timestamp()


async def _stream_state(bus: Bus) -> StreamState:
    info = await bus.stream_info()
    if info is None:
        raise Refused(f"there is no stream {bus.config.stream}: run `episodeflow provision`")
    return info.state


class FailureReader:
    """Keeps a ``FailureLog`` up to date with the stream.

    Args:
        bus: connected.
        strategy: the configured one, which an event without a strategy means.
    """

    def __init__(self, bus: Bus, *, strategy: str) -> None:
        self.log = FailureLog(strategy=strategy)
        self._bus = bus
        self._next_seq = 0

    async def catch_up(self) -> FailureLog:
        """Take everything that is new on the stream and return the log.

        Raises:
            Refused: no stream, or no permission.
            BusUnavailable: the server is away; what was taken stays taken.
        """
        last_seq = (await _stream_state(self._bus)).last_seq
        if not self._next_seq:
            first = await self._bus.stored(1, next_on=FAILED_SUBJECTS)
            if first is None:
                return self.log
            self._next_seq = first.seq
        async for stored in history(self._bus, first_seq=self._next_seq, last_seq=last_seq):
            self.log.take(stored.subject, seq=stored.seq, body=stored.body)
            self._next_seq = stored.seq + 1
        return self.log


async def failed_event(bus: Bus, seq: int) -> EpisodeFailed:
    """Return the failed event with a number in the stream.

    Raises:
        BadEvent: there is no such message, or it is no failed event.
    """
    stored = await bus.stored(seq)
    if stored is None:
        raise BadEvent(f"the stream {bus.config.stream} has no message {seq}: it is too new, or older than the stream keeps")
    if not stored.subject.startswith("episode.failed."):
        raise BadEvent(f"message {seq} is on {stored.subject}, expected a failed event: `episodeflow failed list` shows their numbers")
    return events.decode(stored.body, EpisodeFailed)


def ready_event(failed: EpisodeFailed) -> EpisodeReady:
    """Return the event that tries a failed episode again.

    Raises:
        BadEvent: the event that failed could not be read, so there is nothing to publish.
    """
    if failed.episode_id == UNREADABLE_ID:
        raise BadEvent("the event that failed could not be read, so it cannot be published again: publish a right one in its place")
    return EpisodeReady(**{name: getattr(failed, name) for name in EpisodeReady.__struct_fields__})


async def republish(bus: Bus, failure: Failure, *, again: bool = False) -> Receipt:
    """Publish the episode of a failure again; the same failure twice within the duplicate window is one message.

    Args:
        bus: connected.
        failure: what failed.
        again: make it a new message in any case.

    Raises:
        BadEvent: the failure cannot be published again.
        Refused, BusUnavailable: see ``Bus.publish``.
    """
    event = ready_event(await failed_event(bus, failure.seq))
    nonce = f":{uuid.uuid4().hex}" if again else ""
    message_id = f"ready:{event.source}:{event.episode_id}:{event.strategy or 'configured'}:failure-{failure.seq}{nonce}"
    return await bus.publish(event, message_id=message_id, deadline_s=_DEADLINE_S)
