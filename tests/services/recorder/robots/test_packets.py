"""Packets of the servo bus: bytes in, packets out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder.robots.packets import (
    BROADCAST_ID,
    MAX_PACKET_BYTES,
    Instruction,
    Packet,
    PacketReader,
    alarm_names,
    encoded,
    sync_read_packet,
    sync_write_packet,
)

packets = st.builds(Packet, st.integers(0, BROADCAST_ID), st.integers(0, 255), st.binary(max_size=40))


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (Packet(1, Instruction.PING), "FF FF 01 02 01 FB"),
        (Packet(1, 0), "FF FF 01 02 00 FC"),
        (Packet(1, Instruction.READ, bytes((56, 2))), "FF FF 01 04 02 38 02 BE"),
        (Packet(1, 0, (1024).to_bytes(2, "little")), "FF FF 01 04 00 00 04 F6"),
        (sync_read_packet(address=56, num_bytes=2, servo_ids=range(1, 7)), "FF FF FE 0A 82 38 02 01 02 03 04 05 06 26"),
        (sync_write_packet(address=42, num_bytes=2, data_by_servo_id={1: b"\x00\x08"}), "FF FF FE 07 83 2A 02 01 00 08 42"),
    ],
)
def test_packet_has_the_bytes_of_the_manual(packet: Packet, wire: str) -> None:
    assert encoded(packet) == bytes.fromhex(wire)
    assert PacketReader().feed(bytes.fromhex(wire)) == [packet]


@settings(deadline=None)
@given(st.lists(packets, max_size=8), st.lists(st.integers(1, 9), min_size=1))
def test_packets_come_out_as_they_went_in_however_the_stream_is_cut(sent: list[Packet], sizes: list[int]) -> None:
    stream = b"".join(map(encoded, sent))
    reader, found, index = PacketReader(), [], 0
    while stream:
        size = sizes[index % len(sizes)]
        found += reader.feed(stream[:size])
        stream, index = stream[size:], index + 1

    assert found == sent
    assert reader.num_skipped_bytes == 0


@settings(deadline=None)
@given(packets, st.binary(max_size=20).filter(lambda noise: b"\xff" not in noise))
def test_noise_before_a_packet_is_skipped_and_counted(packet: Packet, noise: bytes) -> None:
    reader = PacketReader()

    assert reader.feed(noise + encoded(packet)) == [packet]
    assert reader.num_skipped_bytes == len(noise)


@settings(deadline=None)
@given(packets.filter(lambda packet: b"\xff" not in packet.parameters), packets, st.data())
def test_a_damaged_byte_costs_its_own_packet_and_not_the_next(first: Packet, second: Packet, data: st.DataObject) -> None:
    wire = bytearray(encoded(first))
    at = data.draw(st.integers(4, len(wire) - 1))  # a damaged id or length may claim bytes of the next one
    wire[at] ^= data.draw(st.integers(1, 255))
    found = PacketReader().feed(bytes(wire) + encoded(second) + bytes(MAX_PACKET_BYTES))

    assert first not in found or first == second
    assert second in found


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_no_bytes_break_the_reader_and_all_are_accounted_for(noise: bytes) -> None:
    reader = PacketReader()
    found = reader.feed(noise)

    assert sum(len(encoded(packet)) for packet in found) + reader.num_skipped_bytes + reader.clear() == len(noise)


def test_a_third_header_byte_belongs_to_nothing() -> None:
    reader = PacketReader()

    assert reader.feed(b"\xff" + encoded(Packet(1, 0))) == [Packet(1, 0)]
    assert reader.num_skipped_bytes == 1


def test_a_length_above_the_longest_expected_packet_is_not_waited_for() -> None:
    reader = PacketReader(max_packet_bytes=8)
    damaged = b"\xff\xff\x01\x63\x00\x00\x04\xf6"

    assert reader.feed(damaged + encoded(Packet(2, 0, b"ab"))) == [Packet(2, 0, b"ab")]


@pytest.mark.parametrize("packet", [Packet(255, 0), Packet(1, 256), Packet(1, 0, bytes(MAX_PACKET_BYTES))])
def test_what_no_packet_can_hold_is_a_mistake_of_the_caller(packet: Packet) -> None:
    with pytest.raises(ValueError, match="packet"):
        encoded(packet)


def test_alarms_are_named() -> None:
    assert alarm_names(1 + 32) == "voltage, overload"
    assert alarm_names(4 + 64) == "overheat, unknown bits 0x40"
