"""One simulated STS3215: registers, EEPROM lock, homing offset, and a shaft that moves. Pure: time is an argument.

The rules of the real one that matter to a host:
- Present_Position = shaft - Homing_Offset.
- EEPROM takes a write only while Torque_Enable and Lock are 0; otherwise the write is confirmed and changes nothing.
- With torque, the shaft follows Goal_Position with lag and limited speed, within the position limits. Without, a hand moves it
  (``hand``), or it stays.
- Every write is confirmed, unless it was a broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from services.recorder.robots import registers
from services.recorder.robots.packets import BROADCAST_ID, MAX_PACKET_BYTES, NUM_FRAME_BYTES, Instruction, Packet
from services.recorder.robots.registers import Register

Hand = Callable[[float], float]
"""Where a hand holds the shaft at a time: seconds in, encoder steps out."""

LAG_S = 0.06
MAX_SPEED_STEPS_PER_S = 6000.0
MAX_READ_BYTES = MAX_PACKET_BYTES - NUM_FRAME_BYTES
_ADDRESSES = 256
_FARTHEST = 32_767
_READ_ONLY = frozenset(
    address
    for register in registers.REGISTERS
    if register.is_read_only
    for address in range(register.address, register.address + register.num_bytes)
)
_FACTORY = {
    registers.FIRMWARE_MAJOR: 3,
    registers.FIRMWARE_MINOR: 10,
    registers.RETURN_DELAY_TIME: 250,
    registers.RESPONSE_STATUS_LEVEL: 1,
    registers.MAX_POSITION_LIMIT: registers.MAX_POSITION,
    registers.P_COEFFICIENT: 32,
    registers.D_COEFFICIENT: 32,
    registers.LOCK: 1,
    registers.PRESENT_VOLTAGE: 74,
    registers.PRESENT_TEMPERATURE: 31,
}


class Servo:
    """One servo.

    Args:
        servo_id: its id on the bus.
        shaft: encoder steps at the start.
        hand: moves the shaft while there is no torque; None: nobody does.
        model: Model_Number.
    """

    def __init__(self, servo_id: int, *, shaft: float = 2047.0, hand: Hand | None = None, model: int = registers.MODEL_STS3215) -> None:
        self.servo_id = servo_id
        self.alarms = 0
        self._memory = bytearray(_ADDRESSES)
        self._pending: Packet | None = None
        self._hand = hand
        self._shaft = shaft
        self._now_s: float | None = None
        for register, value in {**_FACTORY, registers.MODEL_NUMBER: model, registers.SERVO_ID: servo_id}.items():
            self.set(register, value)
        self._show()

    def get(self, register: Register) -> int:
        """Return a register as a host would read it."""
        return register.decoded(bytes(self._memory[register.address : register.address + register.num_bytes]))

    def set(self, register: Register, value: int) -> None:
        """Set a register from within: no lock and no read-only address holds."""
        self._memory[register.address : register.address + register.num_bytes] = register.encoded(value)

    def read(self, address: int, num_bytes: int) -> bytes:
        """Return memory; beyond the last address it is zero."""
        return bytes(self._memory[address : address + num_bytes]).ljust(num_bytes, b"\0")

    def write(self, address: int, data: bytes) -> None:
        """Write memory as a host does: read-only addresses and locked EEPROM keep what they hold."""
        is_locked = bool(self._memory[registers.LOCK.address] or self._memory[registers.TORQUE_ENABLE.address])
        had_torque = self._memory[registers.TORQUE_ENABLE.address]
        for offset, value in enumerate(data):
            at = address + offset
            if at >= _ADDRESSES or at in _READ_ONLY or (at < registers.FIRST_RAM_ADDRESS and is_locked):
                continue
            self._memory[at] = value
        if self._memory[registers.TORQUE_ENABLE.address] and not had_torque and address != registers.GOAL_POSITION.address:
            self.set(registers.GOAL_POSITION, self.get(registers.PRESENT_POSITION))  # it holds where it is
        self._show()

    def answered(self, packet: Packet) -> Packet | None:
        """Obey an instruction for one servo or all, and return the reply, if there is one."""
        parameters = b""
        match packet.code:
            case Instruction.PING:
                return Packet(self.servo_id, self.alarms)
            case Instruction.READ if len(packet.parameters) == 2 and packet.parameters[1] <= MAX_READ_BYTES:
                parameters = self.read(packet.parameters[0], packet.parameters[1])
            case Instruction.WRITE if packet.parameters:
                self.write(packet.parameters[0], packet.parameters[1:])
            case Instruction.REG_WRITE if packet.parameters:
                self._pending = packet
            case Instruction.ACTION:
                if self._pending is not None:
                    self.write(self._pending.parameters[0], self._pending.parameters[1:])
                self._pending = None
            case _:
                return None
        return None if packet.servo_id == BROADCAST_ID else Packet(self.servo_id, self.alarms, parameters)

    def advance(self, now_s: float) -> None:
        """Move the shaft to where it is at this time (seconds, from any start, never backwards)."""
        elapsed_s = 0.0 if self._now_s is None else max(0.0, now_s - self._now_s)
        self._now_s = now_s
        target = self._target(now_s)
        if target is None or elapsed_s == 0.0:
            return
        step = (target - self._shaft) * (1.0 - math.exp(-elapsed_s / LAG_S))
        limit = MAX_SPEED_STEPS_PER_S * elapsed_s
        self._shaft += min(limit, max(-limit, step))
        self._show()

    def _target(self, now_s: float) -> float | None:
        if not self.get(registers.TORQUE_ENABLE):
            return None if self._hand is None else self._hand(now_s)
        goal = self.get(registers.GOAL_POSITION)
        lowest, highest = self.get(registers.MIN_POSITION_LIMIT), self.get(registers.MAX_POSITION_LIMIT)
        return min(highest, max(lowest, goal)) + self.get(registers.HOMING_OFFSET)

    def _show(self) -> None:
        present = round(self._shaft) - self.get(registers.HOMING_OFFSET)
        self.set(registers.PRESENT_POSITION, min(_FARTHEST, max(-_FARTHEST, present)))
