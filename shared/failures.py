"""Failures as they lie on the stream: reading them in order, and publishing an episode again.

Decides how much of the stream is read (from the first failure on, in portions) and which message id a republish has. What
the messages mean stands in ``causes``. Needs no Redis; leaves nothing behind on the server.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import msgspec

from shared import events
from shared.bus import Bus
from shared.causes import UNREADABLE_ID, Failure, FailureLog
from shared.connection import Incoming
from shared.errors import BadEvent, BusUnavailable, Refused
from shared.events import EpisodeFailed, EpisodeReady
from shared.message import Message, Receipt

FAILED_SUBJECTS = "episode.failed.>"
ALL_SUBJECTS = "episode.>"

_PORTION = 200
_WITHIN_S = 5.0
_REST_S = 30.0
_DEADLINE_S = 30.0


class _Created(msgspec.Struct, frozen=True):
    num_pending: int = 0


async def history(bus: Bus, *, subjects: str, first_seq: int) -> AsyncIterator[Message]:
    """Yield what the stream holds now on ``subjects`` from a number on, in order; nothing is acknowledged or changed.

    Reads through a consumer of its own, which is removed at the end (and which the server forgets after 30 s anyway).

    Raises:
        Refused: no stream, or no permission to make a consumer.
        BusUnavailable: the server went away meanwhile.
    """
    name = f"history-{uuid.uuid4().hex[:12]}"
    settings = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(1, first_seq),
        "ack_policy": "none",
        "filter_subject": subjects,
        "mem_storage": True,
        "inactive_threshold": int(_REST_S * 1e9),
    }
    stream = bus.config.stream
    answer = await bus.api(f"CONSUMER.CREATE.{stream}.{name}.{subjects}", {"stream_name": stream, "config": settings, "action": "create"})
    if answer is None:
        raise Refused(f"there is no stream {stream}: run `episodeflow provision`")
    try:
        num_left = msgspec.convert(answer, _Created).num_pending
        while num_left > 0:
            portion = await _portion(bus, name, min(num_left, _PORTION))
            for message in portion:
                yield message
            # Less than asked for: the server dropped old messages meanwhile, and there are no more.
            num_left = num_left - len(portion) if len(portion) == min(num_left, _PORTION) else 0
    finally:
        if bus.is_connected:
            await bus.api(f"CONSUMER.DELETE.{stream}.{name}", {})


async def _portion(bus: Bus, consumer: str, size: int) -> list[Message]:
    inbox = bus.connection.new_inbox()
    answers: asyncio.Queue[Incoming | BusUnavailable] = asyncio.Queue()
    subscribed = await bus.connection.subscribe(inbox, answers.put_nowait)
    found: list[Message] = []
    try:
        request = msgspec.json.encode({"batch": size, "expires": int(_WITHIN_S * 1e9)})
        await bus.connection.send(f"$JS.API.CONSUMER.MSG.NEXT.{bus.config.stream}.{consumer}", request, reply=inbox)
        while len(found) < size:
            async with asyncio.timeout(_WITHIN_S + 1):
                answer = await answers.get()
            if isinstance(answer, BusUnavailable):
                raise answer
            if answer.status is not None:
                break
            found.append(bus.message(answer))
    except TimeoutError as error:
        raise BusUnavailable(f"{bus.connection.addresses} stopped in the middle of the stream's history: run the command again") from error
    finally:
        await subscribed.end(drain=False)
    return found


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
        if not self._next_seq:
            first = await self._bus.stored(1, next_on=FAILED_SUBJECTS)
            if first is None:
                return self.log
            self._next_seq = first.seq
        info = await self._bus.stream_info()
        if info is None or info.state.last_seq < self._next_seq:
            return self.log
        async for message in history(self._bus, subjects=ALL_SUBJECTS, first_seq=self._next_seq):
            self.log.take(message.subject, seq=message.seq, body=message.body)
            self._next_seq = message.seq + 1
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
