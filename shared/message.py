"""What comes back from the bus: messages to settle, receipts, stored messages, the state of stream and consumers.

Decides how a message is settled (the words of the acknowledgement protocol). Does not know the client library:
the bus hands in the two ways to send.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The server's word that an event is stored.

    Attributes:
        seq: its number in the stream.
        duplicate: the same message id was there already; nothing new was stored.
    """

    seq: int
    duplicate: bool = False


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it lies in the stream; ``time`` is RFC 3339 text."""

    subject: str
    seq: int
    body: bytes
    time: str


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How much a stream holds; ``subjects`` counts messages by subject, where it was asked for."""

    messages: int
    num_bytes: int = msgspec.field(name="bytes")
    first_seq: int
    last_seq: int
    consumer_count: int = 0
    subjects: dict[str, int] = {}


class StreamInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's configuration as the server words it, and its state."""

    config: dict[str, Any]
    state: StreamState


class Sequences(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a stream, as a consumer sees it."""

    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer's configuration as the server words it, and how far it is.

    Attributes:
        num_pending: messages never delivered yet.
        num_ack_pending: delivered and not settled.
        num_redelivered: of those, delivered more than once.
        num_waiting: pulls that wait for a message: idle workers.
        ack_floor: everything up to here is settled.
    """

    name: str
    config: dict[str, Any]
    num_pending: int = 0
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    ack_floor: Sequences = Sequences()


Send = Callable[[str, bytes], Awaitable[None]]
Confirm = Callable[[str, bytes, float], Awaitable[None]]


class Message:
    """A delivered message. Whoever holds it settles it: acknowledged, returned, or ended.

    Args:
        body: what was published.
        subject: where it was published.
        reply: subject of the acknowledgement; it carries sequence, attempt and time.
        send: sends and does not wait.
        confirm: sends and waits, for so many seconds, until the server has taken it.

    Raises:
        ValueError: ``reply`` is not the acknowledgement subject of a JetStream message.
    """

    def __init__(self, *, body: bytes, subject: str, reply: str, send: Send, confirm: Confirm) -> None:
        tokens = reply.split(".")
        if tokens[:2] != ["$JS", "ACK"] or len(tokens) < 9:
            raise ValueError(f"{reply!r} acknowledges no JetStream message")
        # $JS.ACK.<stream>.<durable>.… or, with a domain, $JS.ACK.<domain>.<account>.<stream>.<durable>.…
        tokens = tokens[2:] if len(tokens) == 9 else tokens[4:]
        self.body = body
        self.subject = subject
        self.durable = tokens[1]
        self.attempt = int(tokens[2])
        self.seq = int(tokens[3])
        self.timestamp_s = int(tokens[5]) / 1e9
        self._reply = reply
        self._send = send
        self._confirm = confirm

    async def ack(self, *, timeout_s: float) -> None:
        """Acknowledge and wait until the server knows.

        Raises:
            BusUnavailable: no word within ``timeout_s``; the message may come again.
        """
        await self._confirm(self._reply, b"+ACK", timeout_s)

    async def term(self, *, timeout_s: float) -> None:
        """End the message: it never comes again. Waits until the server knows.

        Raises:
            BusUnavailable: no word within ``timeout_s``; the message may come again.
        """
        await self._confirm(self._reply, b"+TERM", timeout_s)

    async def nak(self, delay_s: float = 0.0) -> None:
        """Give the message back, to be delivered again after ``delay_s``; if this gets lost, it comes after the ack wait."""
        delay_ns = int(delay_s * 1e9)
        await self._send(self._reply, b"-NAK " + json.dumps({"delay": delay_ns}).encode() if delay_ns > 0 else b"-NAK")

    async def in_progress(self) -> None:
        """Tell the server that the work goes on: the ack wait starts anew."""
        await self._send(self._reply, b"+WPI")
