"""Packets of the Feetech servo bus (protocol 0): bytes in, packets out, and back.

Decides what is a packet in a stream of bytes that may be cut, doubled or damaged. Knows no register and no port.

    instruction   FF FF  ID  LEN  INST  P1 … Pn  CHK        status   FF FF  ID  LEN  ERR  P1 … Pn  CHK
                  LEN = n + 2, CHK = ~(ID + LEN + INST or ERR + ΣP) & FF

Both have one shape, so that one reader serves host and simulated servo: ``code`` is the instruction or the error bits.
Resynchronisation: where the bytes at a header make no packet (length impossible, checksum wrong), exactly one byte is
given up and the search goes on behind it, so that damage never swallows the packet after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag

import msgspec

BROADCAST_ID = 0xFE
MAX_SERVO_ID = 252
MAX_PACKET_BYTES = 250
NUM_FRAME_BYTES = 6
"""Header (2), id, length, code and checksum: a packet without parameters."""

_HEADER = b"\xff\xff"


class Instruction(IntEnum):
    """What a host asks of a servo."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Alarm(IntFlag):
    """Error bits of a status packet."""

    VOLTAGE = 1
    ANGLE_SENSOR = 2
    OVERHEAT = 4
    OVER_CURRENT = 8
    OVERLOAD = 32


class Packet(msgspec.Struct, frozen=True):
    """One packet: the servo's id, the instruction or the error bits, and the parameters."""

    servo_id: int
    code: int
    parameters: bytes = b""


def encoded(packet: Packet) -> bytes:
    """Return the packet as it goes over the wire.

    Raises:
        ValueError: the id is above 254, the code above 255, or the packet longer than 250 bytes.
    """
    if not 0 <= packet.servo_id <= BROADCAST_ID or not 0 <= packet.code <= 0xFF:
        raise ValueError(f"no packet has id {packet.servo_id} and code {packet.code}")
    if NUM_FRAME_BYTES + len(packet.parameters) > MAX_PACKET_BYTES:
        raise ValueError(f"a packet holds {MAX_PACKET_BYTES - NUM_FRAME_BYTES} bytes of parameters, not {len(packet.parameters)}")
    body = bytes((packet.servo_id, len(packet.parameters) + 2, packet.code)) + packet.parameters
    return b"%b%b%c" % (_HEADER, body, checksum(body))


def checksum(body: bytes) -> int:
    """Return the checksum over everything between header and checksum."""
    return ~sum(body) & 0xFF


class PacketReader:
    """Finds packets in a stream of bytes; ``num_skipped_bytes`` counts what belonged to none.

    Args:
        max_packet_bytes: no packet is longer; the tighter, the fewer bytes a damaged length waits for.
    """

    def __init__(self, *, max_packet_bytes: int = MAX_PACKET_BYTES) -> None:
        self._buffer = bytearray()
        self._max_length = max_packet_bytes - 4
        self.num_skipped_bytes = 0

    def feed(self, data: bytes) -> list[Packet]:
        """Return the packets that these bytes complete, in order; the rest waits for more."""
        self._buffer += data
        packets: list[Packet] = []
        while (found := self._next()) is not None:
            packets.append(found)
        return packets

    @property
    def num_waiting_bytes(self) -> int:
        """Bytes that may yet become a packet."""
        return len(self._buffer)

    def clear(self) -> int:
        """Throw away what waits for more bytes, and return how many bytes that was."""
        num_bytes = len(self._buffer)
        self._buffer.clear()
        return num_bytes

    def _next(self) -> Packet | None:
        """Return the next whole packet, or None until more bytes come."""
        while True:
            self._skip_to_header()
            if not self._is_hopeless():
                num_bytes = self._buffer[3] + 4 if len(self._buffer) >= NUM_FRAME_BYTES else NUM_FRAME_BYTES
                if len(self._buffer) < num_bytes:
                    return None
                body = bytes(self._buffer[2 : num_bytes - 1])
                if checksum(body) == self._buffer[num_bytes - 1]:
                    del self._buffer[:num_bytes]
                    return Packet(body[0], body[2], body[3:])
            self._skip(1)

    def _skip_to_header(self) -> None:
        start = self._buffer.find(_HEADER)
        if start < 0:  # the last byte may be the first half of a header
            start = len(self._buffer) - self._buffer.endswith(b"\xff")
        self._skip(start)

    def _is_hopeless(self) -> bool:
        """Whether id or length behind the header are such as no packet has."""
        buffer = self._buffer
        if len(buffer) > 2 and buffer[2] > BROADCAST_ID:
            return True
        return len(buffer) > 3 and not 2 <= buffer[3] <= self._max_length

    def _skip(self, num_bytes: int) -> None:
        if num_bytes:
            del self._buffer[:num_bytes]
            self.num_skipped_bytes += num_bytes


def alarm_names(code: int) -> str:
    """Return the error bits of a status packet in words: ``voltage, overload``; unknown bits as numbers."""
    names = [alarm.name.lower().replace("_", " ") for alarm in Alarm if code & alarm and alarm.name]
    unknown = code & ~sum(Alarm)
    return ", ".join([*names, *([f"unknown bits 0x{unknown:02X}"] if unknown else [])])


def sync_read_packet(*, address: int, num_bytes: int, servo_ids: Sequence[int]) -> Packet:
    """Return the packet that asks several servos for the same register."""
    return Packet(BROADCAST_ID, Instruction.SYNC_READ, bytes((address, num_bytes, *servo_ids)))


def sync_write_packet(*, address: int, num_bytes: int, data_by_servo_id: dict[int, bytes]) -> Packet:
    """Return the packet that writes one register of several servos; none of them replies."""
    blocks = b"".join(bytes((servo_id,)) + data for servo_id, data in data_by_servo_id.items())
    return Packet(BROADCAST_ID, Instruction.SYNC_WRITE, bytes((address, num_bytes)) + blocks)
