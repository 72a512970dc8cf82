"""One question to the servos and its answers, without a port: bytes to send, bytes received, finished or what is missing.

Decides which packets are the answer. Not the answer, and counted as strays: replies of another servo, of another
length, and our own bytes where the adapter lets us hear them. An echo of a ping cannot be told from a reply with a
voltage alarm by its bytes; so whether the line echoes is found out once, when the port is opened (``echo_probe``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.recorder.robots.packets import (
    BROADCAST_ID,
    NUM_FRAME_BYTES,
    Instruction,
    Packet,
    PacketReader,
    encoded,
    sync_read_packet,
    sync_write_packet,
)
from services.recorder.robots.registers import Register

BITS_PER_BYTE = 10  # 8N1: start, eight, stop
_ECHO_PROBE_ID = 0xFD
"""No servo may have it (the last valid id is 252), so that only an echo answers."""


class Transaction:
    """A request and what it waits for.

    Args:
        request: the packet to send.
        servo_ids: who must reply, in the order of their replies; empty: nobody.
        num_bytes: parameters in each reply.
        is_echoed: the line lets us hear our own bytes first.
    """

    def __init__(self, request: Packet, *, servo_ids: Sequence[int], num_bytes: int, is_echoed: bool = False) -> None:
        self.request = request
        self.to_send = encoded(request)
        self.replies: dict[int, Packet] = {}
        self.num_strays = 0
        self._servo_ids = tuple(servo_ids)
        self._num_bytes = num_bytes
        self._is_echo_due = is_echoed
        self._num_due_bytes = len(self.to_send) * is_echoed + len(self._servo_ids) * (NUM_FRAME_BYTES + num_bytes)
        self._reader = PacketReader(max_packet_bytes=max(len(self.to_send), NUM_FRAME_BYTES + num_bytes))

    @property
    def is_finished(self) -> bool:
        """Whether every servo that must reply did."""
        return len(self.replies) == len(self._servo_ids)

    @property
    def missing_ids(self) -> list[int]:
        """Servos that did not reply so far."""
        return [servo_id for servo_id in self._servo_ids if servo_id not in self.replies]

    @property
    def num_damaged_bytes(self) -> int:
        """Bytes received that belong to no packet."""
        return self._reader.num_skipped_bytes

    @property
    def is_spoilt(self) -> bool:
        """Whether all bytes that were due have come, some of them damaged: waiting longer brings nothing."""
        return self._num_due_bytes <= 0 and self.num_damaged_bytes > 0 and not self._reader.num_waiting_bytes and not self.is_finished

    def receive(self, data: bytes) -> bool:
        """Take received bytes and return whether the transaction is finished."""
        self._num_due_bytes -= len(data)
        for packet in self._reader.feed(data):
            self._take(packet)
        return self.is_finished

    def timeout_s(self, *, baud_rate_hz: int, margin_s: float) -> float:
        """Return how long the answer may take: the bytes on the wire, three byte times, and a margin for the host."""
        num_bytes = len(self.to_send) + len(self._servo_ids) * (NUM_FRAME_BYTES + self._num_bytes)
        return (num_bytes + 3) * BITS_PER_BYTE / baud_rate_hz + margin_s

    def _take(self, packet: Packet) -> None:
        if self._is_echo_due and packet == self.request:
            self._is_echo_due = False
            return
        is_ours = packet.servo_id in self._servo_ids and packet.servo_id not in self.replies
        if is_ours and len(packet.parameters) == self._num_bytes:
            self.replies[packet.servo_id] = packet
        else:
            self.num_strays += 1


def echo_probe() -> Transaction:
    """Return a question that no servo answers: only a line that echoes finishes it."""
    return Transaction(Packet(_ECHO_PROBE_ID, Instruction.PING), servo_ids=[_ECHO_PROBE_ID], num_bytes=0)


def ping(servo_id: int, *, is_echoed: bool = False) -> Transaction:
    """Return the question whether a servo is there."""
    return Transaction(Packet(servo_id, Instruction.PING), servo_ids=[servo_id], num_bytes=0, is_echoed=is_echoed)


def read(servo_id: int, register: Register, *, is_echoed: bool = False) -> Transaction:
    """Return the question for one register of one servo."""
    request = Packet(servo_id, Instruction.READ, bytes((register.address, register.num_bytes)))
    return Transaction(request, servo_ids=[servo_id], num_bytes=register.num_bytes, is_echoed=is_echoed)


def write(servo_id: int, register: Register, value: int, *, is_echoed: bool = False) -> Transaction:
    """Return the order to set one register of one servo, which confirms it; a broadcast is not confirmed.

    Raises:
        ValueError: the register cannot hold the value.
    """
    request = Packet(servo_id, Instruction.WRITE, bytes((register.address,)) + register.encoded(value))
    return Transaction(request, servo_ids=[] if servo_id == BROADCAST_ID else [servo_id], num_bytes=0, is_echoed=is_echoed)


def sync_read(servo_ids: Sequence[int], register: Register, *, is_echoed: bool = False) -> Transaction:
    """Return the question for the same register of several servos, who reply one after the other."""
    request = sync_read_packet(address=register.address, num_bytes=register.num_bytes, servo_ids=servo_ids)
    return Transaction(request, servo_ids=servo_ids, num_bytes=register.num_bytes, is_echoed=is_echoed)


def sync_write(values: Mapping[int, int], register: Register, *, is_echoed: bool = False) -> Transaction:
    """Return the order to set one register of several servos, which nobody confirms.

    Args:
        values: value by servo id.
        register: the register.
        is_echoed: the line lets us hear our own bytes.

    Raises:
        ValueError: the register cannot hold a value.
    """
    data = {servo_id: register.encoded(value) for servo_id, value in values.items()}
    request = sync_write_packet(address=register.address, num_bytes=register.num_bytes, data_by_servo_id=data)
    return Transaction(request, servo_ids=[], num_bytes=0, is_echoed=is_echoed)
