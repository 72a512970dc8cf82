"""The registers of an STS3215 servo: address, size, sign, and which survive power loss.

A register is little-endian. A signed one is sign and magnitude: the sign bit set means negative, the bits below are the
magnitude (Homing_Offset: bit 11, so ±2047). EEPROM registers (address below 40) take a write only while
Torque_Enable and Lock are 0.

Source: LeRobot's control table of the STS series, and the vendor's memory table.
"""

from __future__ import annotations

from typing import Final

import msgspec

MODEL_STS3215: Final = 777
STEPS_PER_TURN: Final = 4096
MAX_POSITION: Final = STEPS_PER_TURN - 1
BAUD_RATE_HZ: Final = 1_000_000
FIRST_RAM_ADDRESS: Final = 40


class Register(msgspec.Struct, frozen=True):
    """One register: its name in the vendor's table, address, size in bytes, sign bit (None: unsigned)."""

    name: str
    address: int
    num_bytes: int
    sign_bit: int | None = None
    is_read_only: bool = False

    @property
    def is_eeprom(self) -> bool:
        """Whether it survives power loss, and takes a write only with torque and lock off."""
        return self.address < FIRST_RAM_ADDRESS

    def encoded(self, value: int) -> bytes:
        """Return the value's bytes.

        Raises:
            ValueError: the register cannot hold it.
        """
        limit = 1 << (8 * self.num_bytes if self.sign_bit is None else self.sign_bit)
        if not (0 if self.sign_bit is None else 1 - limit) <= value < limit:
            raise ValueError(f"{self.name} cannot hold {value}")
        raw = value if value >= 0 else -value | limit
        return raw.to_bytes(self.num_bytes, "little")

    def decoded(self, data: bytes) -> int:
        """Return the value in these bytes."""
        raw = int.from_bytes(data, "little")
        if self.sign_bit is None or not raw >> self.sign_bit & 1:
            return raw
        return -(raw & ((1 << self.sign_bit) - 1))


FIRMWARE_MAJOR = Register("Firmware_Major_Version", 0, 1, is_read_only=True)
FIRMWARE_MINOR = Register("Firmware_Minor_Version", 1, 1, is_read_only=True)
MODEL_NUMBER = Register("Model_Number", 3, 2, is_read_only=True)
SERVO_ID = Register("ID", 5, 1)
BAUD_RATE = Register("Baud_Rate", 6, 1)
RETURN_DELAY_TIME = Register("Return_Delay_Time", 7, 1)
RESPONSE_STATUS_LEVEL = Register("Response_Status_Level", 8, 1)
MIN_POSITION_LIMIT = Register("Min_Position_Limit", 9, 2)
MAX_POSITION_LIMIT = Register("Max_Position_Limit", 11, 2)
P_COEFFICIENT = Register("P_Coefficient", 21, 1)
D_COEFFICIENT = Register("D_Coefficient", 22, 1)
I_COEFFICIENT = Register("I_Coefficient", 23, 1)
HOMING_OFFSET = Register("Homing_Offset", 31, 2, 11)
OPERATING_MODE = Register("Operating_Mode", 33, 1)
TORQUE_ENABLE = Register("Torque_Enable", 40, 1)
ACCELERATION = Register("Acceleration", 41, 1)
GOAL_POSITION = Register("Goal_Position", 42, 2, 15)
GOAL_VELOCITY = Register("Goal_Velocity", 46, 2, 15)
LOCK = Register("Lock", 55, 1)
PRESENT_POSITION = Register("Present_Position", 56, 2, 15, is_read_only=True)
PRESENT_VELOCITY = Register("Present_Velocity", 58, 2, 15, is_read_only=True)
PRESENT_LOAD = Register("Present_Load", 60, 2, 10, is_read_only=True)
PRESENT_VOLTAGE = Register("Present_Voltage", 62, 1, is_read_only=True)
PRESENT_TEMPERATURE = Register("Present_Temperature", 63, 1, is_read_only=True)
MOVING = Register("Moving", 66, 1, is_read_only=True)
PRESENT_CURRENT = Register("Present_Current", 69, 2, is_read_only=True)
MAXIMUM_ACCELERATION = Register("Maximum_Acceleration", 85, 1)

REGISTERS: Final = (
    *(FIRMWARE_MAJOR, FIRMWARE_MINOR, MODEL_NUMBER, SERVO_ID, BAUD_RATE, RETURN_DELAY_TIME, RESPONSE_STATUS_LEVEL),
    *(MIN_POSITION_LIMIT, MAX_POSITION_LIMIT, P_COEFFICIENT, D_COEFFICIENT, I_COEFFICIENT, HOMING_OFFSET, OPERATING_MODE),
    *(TORQUE_ENABLE, ACCELERATION, GOAL_POSITION, GOAL_VELOCITY, LOCK, MAXIMUM_ACCELERATION),
    *(PRESENT_POSITION, PRESENT_VELOCITY, PRESENT_LOAD, PRESENT_VOLTAGE, PRESENT_TEMPERATURE, MOVING, PRESENT_CURRENT),
)
"""Every register this product reads or writes, or that its simulated servo shows."""
