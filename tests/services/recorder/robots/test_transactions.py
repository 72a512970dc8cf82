"""One question and its answers, without a port."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from services.recorder.robots import transactions
from services.recorder.robots.packets import Packet, encoded
from services.recorder.robots.registers import GOAL_POSITION, PRESENT_POSITION, TORQUE_ENABLE


def reply(servo_id: int, data: bytes = b"", code: int = 0) -> bytes:
    return encoded(Packet(servo_id, code, data))


def test_a_sync_read_is_finished_when_every_servo_replied() -> None:
    asked = transactions.sync_read([1, 2, 3], PRESENT_POSITION)

    assert not asked.receive(reply(1, b"\0\1") + reply(2, b"\0\2"))
    assert asked.missing_ids == [3]
    assert asked.receive(reply(3, b"\0\3"))
    assert {servo_id: packet.parameters[1] for servo_id, packet in asked.replies.items()} == {1: 1, 2: 2, 3: 3}


def test_replies_of_others_of_other_length_and_twice_are_strays() -> None:
    asked = transactions.sync_read([1, 2], PRESENT_POSITION)
    asked.receive(reply(9, b"\0\1") + reply(1) + reply(1, b"\0\1") + reply(1, b"\0\7"))

    assert asked.replies[1].parameters == b"\0\1"
    assert asked.num_strays == 3
    assert asked.missing_ids == [2]


def test_damaged_replies_are_counted_and_missing() -> None:
    asked = transactions.read(1, PRESENT_POSITION)
    asked.receive(reply(1, b"\0\1")[:-1] + b"\0")

    assert asked.missing_ids == [1]
    assert asked.num_damaged_bytes > 0


def test_on_a_line_that_echoes_the_first_equal_packet_is_not_the_reply() -> None:
    asked = transactions.ping(1, is_echoed=True)

    assert not asked.receive(asked.to_send)
    assert asked.receive(asked.to_send)  # the same bytes again: a reply with a voltage alarm
    assert asked.replies[1].code == 1


def test_on_a_quiet_line_a_reply_that_looks_like_the_question_counts() -> None:
    asked = transactions.ping(1)

    assert asked.receive(asked.to_send)


def test_only_a_line_that_echoes_answers_the_probe() -> None:
    probe = transactions.echo_probe()

    assert not probe.is_finished
    assert probe.receive(probe.to_send)


def test_nobody_confirms_a_sync_write_or_a_broadcast() -> None:
    assert transactions.sync_write({1: -5, 2: 4095}, GOAL_POSITION).is_finished
    assert transactions.write(0xFE, TORQUE_ENABLE, 0).is_finished
    assert not transactions.write(1, TORQUE_ENABLE, 0).is_finished


def test_time_out_is_the_time_on_the_wire_three_bytes_and_the_margin() -> None:
    asked = transactions.sync_read(range(1, 7), PRESENT_POSITION)

    assert round(asked.timeout_s(baud_rate_hz=1_000_000, margin_s=0.05) * 1e6) == (14 + 6 * 8 + 3) * 10 + 50_000


@given(at=st.integers(0, 15), change=st.integers(1, 255), pieces=st.lists(st.integers(1, 16), min_size=1, max_size=8))
def test_an_answer_is_spoilt_only_when_all_its_bytes_have_come_and_some_are_damaged(at: int, change: int, pieces: list[int]) -> None:
    asked = transactions.sync_read([1, 2], PRESENT_POSITION)
    answer = bytearray(reply(1, b"\0\1") + reply(2, b"\0\2"))
    answer[at] ^= change
    for start, end in pairwise([0, *sorted({*pieces} - {16}), 16]):
        assert not asked.is_spoilt
        asked.receive(bytes(answer[start:end]))

    assert not asked.is_finished
    if at not in {3, 11} and answer[-1] != 0xFF:  # behind a damaged length more may come
        assert asked.is_spoilt


def test_bytes_of_noise_do_not_spoil_an_answer_that_is_still_coming() -> None:
    asked = transactions.read(1, PRESENT_POSITION)
    answer = reply(1, b"\0\1")
    asked.receive(b"\x55" + answer[:-1])

    assert not asked.is_spoilt
    assert asked.receive(answer[-1:])
    assert not asked.is_spoilt


def test_strays_alone_do_not_spoil_a_question() -> None:
    asked = transactions.read(1, PRESENT_POSITION)
    asked.receive(reply(9, b"\0\1") * 3)

    assert not asked.is_spoilt
