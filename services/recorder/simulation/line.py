"""Several simulated servos on one bus: bytes of the host in, bytes of the servos out. Pure: time is an argument.

Faults lie here, between the servos and the wire, so that a servo is always sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from services.recorder.robots.packets import BROADCAST_ID, Instruction, Packet, PacketReader, encoded
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.servo import MAX_READ_BYTES, Servo

_MIN_STEP_S = 0.0005
"""Shafts move at most this often: nobody reads faster, and moving costs most of an answer."""


class Answer(msgspec.Struct, frozen=True):
    """Bytes for the host, and how long they wait before they go out."""

    data: bytes
    delay_s: float = 0.0


class ServoLine:
    """A bus with servos.

    Args:
        servos: in any order.
        faults: what goes wrong; may be replaced at any time.
    """

    def __init__(self, servos: Sequence[Servo], *, faults: Faults | None = None) -> None:
        self.servos = {servo.servo_id: servo for servo in servos}
        self.faults = faults or Faults()
        self._reader = PacketReader()
        self._num_replies = 0
        self._moved_at_s = float("-inf")

    def received(self, data: bytes, now_s: float) -> list[Answer]:
        """Take bytes of the host and return what the host hears.

        Args:
            data: any piece of the stream.
            now_s: seconds since the line's start.
        """
        answers = [Answer(data)] if self.faults.echo else []
        for packet in self._reader.feed(data):
            self.advance(now_s)
            replies = b"".join(self._sent(reply) for reply in self._replies(packet))
            if replies and not self._is_silent(now_s):
                answers.append(Answer(replies, self.faults.slow / 1000))
        return answers

    def advance(self, now_s: float) -> None:
        """Move every shaft to where it is at this time."""
        if now_s - self._moved_at_s < _MIN_STEP_S:
            return
        self._moved_at_s = now_s
        for servo in self.servos.values():
            servo.advance(now_s)

    def _is_silent(self, now_s: float) -> bool:
        return self.faults.silence is not None and now_s >= self.faults.silence

    def _replies(self, packet: Packet) -> Iterator[Packet]:
        if packet.code in {Instruction.SYNC_READ, Instruction.SYNC_WRITE} and len(packet.parameters) < 2:
            return
        if packet.code == Instruction.SYNC_READ:
            yield from self._sync_read(packet.parameters)
        elif packet.code == Instruction.SYNC_WRITE:
            self._sync_write(packet.parameters)
        else:
            for servo in self._addressed(packet.servo_id):
                reply = servo.answered(packet)
                if reply is not None:
                    yield reply

    def _sync_read(self, parameters: bytes) -> Iterator[Packet]:
        address, num_bytes, *servo_ids = parameters
        if num_bytes > MAX_READ_BYTES:
            return
        for servo_id in servo_ids:
            for servo in self._addressed(servo_id):
                yield Packet(servo_id, servo.alarms, servo.read(address, num_bytes))

    def _sync_write(self, parameters: bytes) -> None:
        address, num_bytes, *_ = parameters
        for start in range(2, len(parameters), num_bytes + 1):
            block = parameters[start : start + num_bytes + 1]
            for servo in self._addressed(block[0]):
                servo.write(address, block[1:])

    def _addressed(self, servo_id: int) -> list[Servo]:
        wanted = self.servos.values() if servo_id == BROADCAST_ID else filter(None, [self.servos.get(servo_id)])
        return [servo for servo in wanted if servo.servo_id != self.faults.missing]

    def _sent(self, packet: Packet) -> bytes:
        data = encoded(packet)
        self._num_replies += 1
        if self.faults.corrupt and self._num_replies % self.faults.corrupt == 0:
            return data[:-1] + bytes((data[-1] ^ 0x55,))
        return data
