"""A simulated bus: bytes in, bytes out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder.robots import registers, transactions
from services.recorder.robots.packets import BROADCAST_ID, Instruction, Packet, PacketReader, encoded
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.line import Answer, ServoLine
from services.recorder.simulation.servo import Servo


def line(**faults: object) -> ServoLine:
    return ServoLine([Servo(1), Servo(2), Servo(3)], faults=Faults(**faults))  # type: ignore[arg-type]


def test_servos_reply_in_the_order_they_are_asked() -> None:
    asked = transactions.sync_read([3, 1, 9], registers.SERVO_ID)
    (answer,) = line().received(asked.to_send, 0.0)

    assert PacketReader().feed(answer.data) == [Packet(3, 0, b"\3"), Packet(1, 0, b"\1")]


def test_a_sync_write_reaches_its_servos_and_nobody_replies() -> None:
    bus = line()

    assert bus.received(transactions.sync_write({1: -7, 3: 9}, registers.GOAL_POSITION).to_send, 0.0) == []
    assert [servo.get(registers.GOAL_POSITION) for servo in bus.servos.values()] == [-7, 0, 9]


def test_everybody_answers_a_ping_to_all() -> None:
    (answer,) = line().received(encoded(Packet(BROADCAST_ID, Instruction.PING)), 0.0)

    assert [packet.servo_id for packet in PacketReader().feed(answer.data)] == [1, 2, 3]


def test_each_fault_does_what_its_name_says() -> None:
    ping = transactions.ping(2).to_send

    assert line(missing=2).received(ping, 0.0) == []
    assert line(silence=5.0).received(ping, 5.0) == []
    assert line(silence=5.0).received(ping, 4.9) != []
    assert line(echo=True).received(ping, 0.0)[0] == Answer(ping)
    assert line(slow=80).received(ping, 0.0)[0].delay_s == 0.08
    damaged = line(corrupt=2)
    assert [bool(PacketReader().feed(damaged.received(ping, 0.0)[0].data)) for _ in range(4)] == [True, False, True, False]


@settings(deadline=None)
@given(
    st.lists(st.builds(Packet, st.integers(0, 254), st.sampled_from([1, 2, 3, 4, 5, 0x82, 0x83, 9]), st.binary(max_size=12)), max_size=9)
)
def test_no_instruction_breaks_the_bus(packets: list[Packet]) -> None:
    bus = line()
    for packet in packets:
        bus.received(encoded(packet), 0.0)

    assert bus.received(transactions.ping(1).to_send, 1.0) == [Answer(encoded(Packet(1, 0)))]
