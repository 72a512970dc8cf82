"""What a message says about itself, and the words with which it is settled."""

from __future__ import annotations

import pytest

from shared.message import Message


class Wire:
    """Notes what a message sends."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def send(self, _subject: str, body: bytes) -> None:
        self.sent.append(body)

    async def confirm(self, _subject: str, body: bytes, _timeout_s: float) -> None:
        self.sent.append(body + b" confirmed")


def message(reply: str, wire: Wire) -> Message:
    return Message(body=b"", subject="episode.ready.a", reply=reply, send=wire.send, confirm=wire.confirm)


@pytest.mark.parametrize(
    "reply",
    ["$JS.ACK.EPISODES.conv.3.17.9.1700000000500000000.4", "$JS.ACK.hub.acc.EPISODES.conv.3.17.9.1700000000500000000.4.rnd"],
    ids=["plain", "with-domain"],
)
def test_reply_subject_carries_durable_attempt_sequence_and_time(reply: str) -> None:
    found = message(reply, Wire())

    assert (found.durable, found.attempt, found.seq, found.timestamp_s) == ("conv", 3, 17, 1_700_000_000.5)


@pytest.mark.parametrize("reply", ["", "_INBOX.x", "$JS.ACK.EPISODES"])
def test_message_without_an_acknowledgement_subject_is_a_mistake(reply: str) -> None:
    with pytest.raises(ValueError, match="acknowledges no JetStream message"):
        message(reply, Wire())


async def test_message_is_settled_in_the_words_of_the_protocol() -> None:
    wire = Wire()
    found = message("$JS.ACK.EPISODES.conv.1.1.1.1.0", wire)
    await found.in_progress()
    await found.nak()
    await found.nak(1.5)
    await found.ack(timeout_s=1)
    await found.term(timeout_s=1)

    assert wire.sent == [b"+WPI", b"-NAK", b'-NAK {"delay": 1500000000}', b"+ACK confirmed", b"+TERM confirmed"]
