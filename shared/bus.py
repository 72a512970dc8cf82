"""The event bus: publish until acknowledged, and look into the stream and its consumers.

Decides what is retried and what is refused. Does not know the client library (``connection``), how messages are
pulled (``pull``) or what a service does with one (``consumer``).
"""

from __future__ import annotations

import asyncio
import base64
from types import TracebackType
from typing import Any, Self

import msgspec

from shared import events, logs
from shared.config import NatsConfig
from shared.connection import Connection, Incoming, NobodyListens
from shared.errors import BadEvent, BusUnavailable, EpisodeflowError, Refused
from shared.message import ConsumerInfo, Message, Receipt, Stored, StreamInfo

_log = logs.logger("bus")

_ANSWER_TIMEOUT_S = 5.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_NUM_NO_STREAM_ANSWERS = 5
_INVALID_SETTINGS = frozenset({10012, 10049, 10052})
"""Error codes of consumer create, stream create and stream update: the server calls them 500, but they never heal."""


class Bus:
    """The events of one NATS stream. Make it with ``Bus.connect``; close it, or use it as a context.

    Attributes:
        config: what it was made from.
        connection: what it talks through.
    """

    def __init__(self, config: NatsConfig, connection: Connection) -> None:
        self.config = config
        self.connection = connection

    @classmethod
    async def connect(cls, config: NatsConfig, *, name: str) -> Self:
        """Return a connected bus that reconnects for ever.

        Args:
            config: where, as whom, and which stream.
            name: who we are, as the server's monitoring shows it.

        Raises:
            BusUnavailable: nobody answered within ``connect_timeout_s``.
            Refused: the server does not accept the credentials.
            BadConfig: a server address or a certificate file is wrong.
        """
        return cls(config, await Connection.open(config, name=name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    @property
    def is_connected(self) -> bool:
        """Whether the server is there right now."""
        return self.connection.is_connected

    async def close(self) -> None:
        """Send what is left to send and close; may be called twice."""
        await self.connection.close()

    # --- publishing ---------------------------------------------------------------------------------------

    async def publish(self, event: events.EpisodeReady, *, message_id: str, deadline_s: float | None = None) -> Receipt:
        """Publish an event until the server acknowledges it.

        Args:
            event: goes to the subject of its type.
            message_id: the same for every retry of one publish, another for a republish.
            deadline_s: give up after so many seconds; None: never.

        Raises:
            BusUnavailable: not acknowledged within ``deadline_s`` (it may still arrive), or the bus is closed.
            Refused: no permission, or no stream takes the subject.
            BadEvent: the event is larger than readers accept.
        """
        subject, body = events.subject(event), events.encode(event)
        if len(body) > events.MAX_EVENT_BYTES:
            raise BadEvent(
                f"the event for {subject} has {len(body)} bytes, the limit is {events.MAX_EVENT_BYTES}: shorten config_overrides"
            )
        try:
            async with asyncio.timeout(deadline_s):
                return await self._published(subject, body, message_id)
        except TimeoutError as error:
            raise BusUnavailable(f"{self.connection.addresses} did not acknowledge {subject} within {deadline_s:g} s") from error

    async def _published(self, subject: str, body: bytes, message_id: str) -> Receipt:
        pause_s, num_no_stream = _FIRST_PAUSE_S, 0
        while True:
            await self.connection.wait_connected()
            try:
                answer = await self.connection.ask(subject, body, timeout_s=_ANSWER_TIMEOUT_S, headers={"Nats-Msg-Id": message_id})
                return _receipt(subject, answer)
            except NobodyListens as error:
                num_no_stream += 1  # a server that has just started may not have its streams yet
                if num_no_stream == _NUM_NO_STREAM_ANSWERS:
                    raise Refused(f"no stream takes {subject}: run `episodeflow provision`") from error
            except BusUnavailable as error:
                _log.warning("event.unacknowledged", subject=subject, message_id=message_id, error=str(error), delay_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    # --- looking ------------------------------------------------------------------------------------------

    async def stream_info(self, *, subjects: str | None = None) -> StreamInfo | None:
        """Return the state of our stream, with counts for the subjects that match a pattern; None if it is not there.

        Raises:
            BusUnavailable, Refused: as ``api``.
        """
        request = {"subjects_filter": subjects} if subjects else {}
        answer = await self.api(f"STREAM.INFO.{self.config.stream}", request)
        return None if answer is None else msgspec.convert(answer, StreamInfo)

    async def consumer_info(self, durable: str) -> ConsumerInfo | None:
        """Return the state of one durable consumer of our stream; None if it is not there.

        Raises:
            BusUnavailable, Refused: as ``api``.
        """
        answer = await self.api(f"CONSUMER.INFO.{self.config.stream}.{durable}", {})
        return None if answer is None else msgspec.convert(answer, ConsumerInfo)

    async def consumer_infos(self) -> list[ConsumerInfo]:
        """Return the state of every consumer of our stream.

        Raises:
            BusUnavailable, Refused: as ``api``.
        """
        found: list[ConsumerInfo] = []
        while True:
            answer = await self.api(f"CONSUMER.LIST.{self.config.stream}", {"offset": len(found)}) or {}
            page = msgspec.convert(answer.get("consumers") or [], list[ConsumerInfo])
            found += page
            if not page or len(found) >= answer.get("total", 0):
                return found

    async def stored(self, seq: int, *, next_on: str | None = None) -> Stored | None:
        """Return the message with a sequence number, or the first from there on a subject (pattern); None if there is none.

        Raises:
            BusUnavailable, Refused: as ``api``.
        """
        request = {"seq": seq, "next_by_subj": next_on} if next_on else {"seq": seq}
        answer = await self.api(f"STREAM.MSG.GET.{self.config.stream}", request)
        if answer is None:
            return None
        found = answer["message"]
        return Stored(subject=found["subject"], seq=found["seq"], body=base64.b64decode(found.get("data", "")), time=found["time"])

    async def api(self, call: str, request: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer of a JetStream API call (``STREAM.INFO.X``), or None for "not found".

        Raises:
            BusUnavailable: no answer, or the server cannot now.
            Refused: no permission, or the server refuses the request.
        """
        body = msgspec.json.encode(request) if request else b""
        answer = await self.connection.ask(f"$JS.API.{call}", body, timeout_s=_ANSWER_TIMEOUT_S)
        decoded: dict[str, Any] = msgspec.json.decode(answer)
        problem = decoded.get("error")
        if problem is None:
            return decoded
        if problem["code"] == 404:
            return None
        raise _refusal(f"the JetStream call {call}", problem)

    # --- messages -----------------------------------------------------------------------------------------

    def message(self, incoming: Incoming) -> Message:
        """Return what arrived at a pull as a message that can be settled."""
        return Message(body=incoming.body, subject=incoming.subject, reply=incoming.reply, send=self.connection.send, confirm=self._confirm)

    async def _confirm(self, subject: str, body: bytes, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._confirmed(subject, body)
        except TimeoutError as error:
            raise BusUnavailable(f"{self.connection.addresses} did not confirm {body.decode()} within {timeout_s:g} s") from error

    async def _confirmed(self, subject: str, body: bytes) -> None:
        while True:
            await self.connection.wait_connected()
            try:
                await self.connection.ask(subject, body, timeout_s=_ANSWER_TIMEOUT_S)
                return
            except BusUnavailable as error:
                _log.debug("message.unconfirmed", subject=subject, error=str(error))
            await asyncio.sleep(_FIRST_PAUSE_S)


def _receipt(subject: str, answer: bytes) -> Receipt:
    try:
        decoded = msgspec.json.decode(answer)
        problem = decoded.get("error")
        if problem is None:
            return Receipt(seq=decoded["seq"], duplicate=decoded.get("duplicate", False))
    except (msgspec.DecodeError, AttributeError, KeyError) as error:
        raise Refused(f"{subject} is answered by something that is not JetStream: {answer[:100]!r}") from error
    raise _refusal(f"the stream that takes {subject}", problem)


def _refusal(place: str, problem: dict[str, Any]) -> EpisodeflowError:
    """Translate an error of the JetStream API: 5xx and 429 may heal, the rest does not."""
    sentence = f"{place}: {problem.get('description', 'refused')} (code {problem.get('code')}, error {problem.get('err_code')})"
    may_heal = problem.get("code", 500) in {429, *range(500, 600)} and problem.get("err_code") not in _INVALID_SETTINGS
    return BusUnavailable(sentence) if may_heal else Refused(sentence)
