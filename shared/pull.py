"""Pulling one message at a time from several durable consumers in fair turn.

Theory of operation. A worker that is free asks every durable in turn, without waiting, for one message; the
next round starts behind the durable that gave one, so none starves. Only when all are empty it leaves one
lingering pull with each, for at most ``LINGER_S``; the first message wins and the other pulls are withdrawn.
A withdrawn pull must not eat a message: the subscription is drained, so that what was under way still arrives,
and what arrived beside the winner is given back at once. A connection that breaks ends the round: pulls do
not survive it, so they are sent anew as soon as the server is back.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

import msgspec

from shared import logs
from shared.bus import Bus
from shared.connection import Incoming, Subscribed
from shared.errors import BusUnavailable, EpisodeflowError, Refused
from shared.message import Message

_log = logs.logger("pull")

LINGER_S = 5.0
_ANSWER_TIMEOUT_S = 5.0
_MARGIN_S = 1.0
_PAUSE_S = 0.25
_NO_RESPONDERS = 503
_NO_WAIT = msgspec.json.encode({"batch": 1, "no_wait": True})
_LINGERING = msgspec.json.encode({"batch": 1, "expires": int(LINGER_S * 1e9)})


class Puller:
    """One worker's view on its durables.

    Args:
        bus: the connected bus.
        durables: names of durable consumers of the bus's stream, at least one.

    Attributes:
        is_pulling: a pull is open, or its message on the way: cancelling now would lose it until its ack wait ends.
    """

    def __init__(self, bus: Bus, durables: tuple[str, ...]) -> None:
        if not durables:
            raise ValueError("a puller needs at least one durable consumer")
        self._bus = bus
        self._durables = durables
        self._first_index = 0
        self._missing: set[str] = set()
        self._inbox: _Inbox | None = None
        self._stopped = False
        self.is_pulling = False

    async def check(self) -> None:
        """Make sure that every durable is there.

        Raises:
            Refused: one is not.
            BusUnavailable: the server does not answer.
        """
        for durable in self._durables:
            if await self._bus.consumer_info(durable) is None:
                raise Refused(f"the stream {self._bus.config.stream} has no consumer {durable}: run `episodeflow provision`")

    def stop(self) -> None:
        """Let the pull that waits, and every later one, return None."""
        self._stopped = True
        if self._inbox:
            self._inbox.interrupt(BusUnavailable("stopped"))

    async def next(self) -> Message | None:
        """Return the next message, or None after ``stop``.

        Raises:
            Refused: no permission to pull.
            BusUnavailable: the bus is closed.
        """
        while not self._stopped:
            await self._bus.connection.wait_connected()
            self.is_pulling = True
            try:
                message = await self._round()
            except BusUnavailable as error:
                _log.debug("pull.broken", error=str(error))
                continue
            finally:
                self.is_pulling = False
            if message:
                return message
        return None

    async def _round(self) -> Message | None:
        async with _Inbox(self._bus) as inbox:
            self._inbox = inbox
            try:
                # Nothing is awaited between a stop and this look at it, so a stop cannot fall in between.
                message = None if self._stopped else await self._sweep(inbox) or await self._linger(inbox)
            finally:
                self._inbox = None
            if message:
                inbox.keep(message)
            return message

    async def _sweep(self, inbox: _Inbox) -> Message | None:
        num = len(self._durables)
        turn = [self._durables[(self._first_index + step) % num] for step in range(num)]
        for durable in turn:
            await inbox.pull(durable, _NO_WAIT)
            answer = await inbox.answer(_ANSWER_TIMEOUT_S)
            if isinstance(answer, Message):
                return self._won(answer)
            self._note(durable, is_missing=answer.status == _NO_RESPONDERS)
        return None

    async def _linger(self, inbox: _Inbox) -> Message | None:
        clock = asyncio.get_running_loop().time
        deadline = clock() + LINGER_S + _MARGIN_S
        for durable in self._durables:
            await inbox.pull(durable, _LINGERING)
        while inbox.num_open:
            answer = await inbox.answer(deadline - clock())
            if isinstance(answer, Message):
                return self._won(answer)
        if clock() < deadline - _MARGIN_S - _PAUSE_S:
            # Every pull was ended early (consumers missing, a new leader): not in a hot loop.
            await asyncio.sleep(_PAUSE_S)
        return None

    def _won(self, message: Message) -> Message:
        if message.durable in self._durables:
            self._first_index = (self._durables.index(message.durable) + 1) % len(self._durables)
            self._note(message.durable, is_missing=False)
        return message

    def _note(self, durable: str, *, is_missing: bool) -> None:
        if is_missing and durable not in self._missing:
            self._missing.add(durable)
            _log.warning("durable.missing", durable=durable, stream=self._bus.config.stream)
        elif not is_missing:
            self._missing.discard(durable)


class _Inbox:
    """A place for the answers to several pulls; leaving it withdraws what is open and gives back what was not kept."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._subject = bus.connection.new_inbox()
        self._answers: asyncio.Queue[Message | Incoming | EpisodeflowError] = asyncio.Queue()
        self._open: set[str] = set()
        self._received: list[Message] = []
        self._watches = contextlib.ExitStack()
        self._subscribed: Subscribed | None = None

    async def __aenter__(self) -> _Inbox:
        self._subscribed = await self._bus.connection.subscribe(f"{self._subject}.*", self._take)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._watches.close()
        if self._subscribed:
            await self._subscribed.end(drain=bool(self._open))
        for message in self._received:
            await message.nak()

    @property
    def num_open(self) -> int:
        """Pulls without an answer."""
        return len(self._open)

    def interrupt(self, error: EpisodeflowError) -> None:
        """Let the next ``answer`` raise."""
        self._answers.put_nowait(error)

    def keep(self, message: Message) -> None:
        """Take a message out of what is given back."""
        self._received.remove(message)

    async def pull(self, durable: str, request: bytes) -> None:
        """Ask a durable for one message."""
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._bus.config.stream}.{durable}"
        self._watches.enter_context(self._bus.connection.watching(subject, self.interrupt))
        self._open.add(durable)
        await self._bus.connection.send(subject, request, reply=f"{self._subject}.{durable}")

    async def answer(self, timeout_s: float) -> Message | Incoming:
        """Return the next message, or the status with which a pull ended.

        Raises:
            BusUnavailable: nothing came within ``timeout_s``, the connection broke, or ``interrupt``.
            Refused: no permission to pull.
        """
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._answers.get()
        except TimeoutError as error:
            raise BusUnavailable(f"no answer to a pull within {timeout_s:.1f} s") from error
        if isinstance(answer, EpisodeflowError):
            raise answer
        self._open.discard(answer.durable if isinstance(answer, Message) else answer.subject.rpartition(".")[2])
        return answer

    def _take(self, incoming: Incoming) -> None:
        if incoming.status is not None:
            self._answers.put_nowait(incoming)
            return
        message = self._bus.message(incoming)
        self._received.append(message)
        self._answers.put_nowait(message)
