"""The table of registers and signed values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder.robots.registers import GOAL_POSITION, HOMING_OFFSET, LOCK, PRESENT_POSITION, REGISTERS, TORQUE_ENABLE, Register


@settings(deadline=None)
@given(st.sampled_from(REGISTERS), st.data())
def test_a_value_survives_the_wire(register: Register, data: st.DataObject) -> None:
    limit = 1 << (8 * register.num_bytes if register.sign_bit is None else register.sign_bit)
    value = data.draw(st.integers(0 if register.sign_bit is None else 1 - limit, limit - 1))

    assert register.decoded(register.encoded(value)) == value


def test_sign_is_a_bit_above_the_magnitude() -> None:
    assert HOMING_OFFSET.encoded(-1470) == (1470 | 1 << 11).to_bytes(2, "little")
    assert HOMING_OFFSET.encoded(2047) == (2047).to_bytes(2, "little")
    assert PRESENT_POSITION.decoded((3 | 1 << 15).to_bytes(2, "little")) == -3


@pytest.mark.parametrize(
    ("register", "value"), [(HOMING_OFFSET, 2048), (HOMING_OFFSET, -2048), (LOCK, 256), (LOCK, -1), (GOAL_POSITION, 32768)]
)
def test_a_value_that_does_not_fit_is_a_mistake_of_the_caller(register: Register, value: int) -> None:
    with pytest.raises(ValueError, match=f"{register.name} cannot hold {value}"):
        register.encoded(value)


def test_registers_do_not_overlap_and_torque_is_not_in_the_eeprom() -> None:
    addresses = [at for register in REGISTERS for at in range(register.address, register.address + register.num_bytes)]

    assert len(addresses) == len(set(addresses))
    assert HOMING_OFFSET.is_eeprom
    assert not TORQUE_ENABLE.is_eeprom
