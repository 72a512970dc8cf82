"""Keys from bytes, however a terminal or the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.keys import KeyReader
from services.recorder.session import Key


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x1b[C", [Key.NEXT]),
        (b"\x1bOC", [Key.NEXT]),
        (b"\x1b[1;5C", [Key.NEXT]),
        (b"\x1b[D", [Key.REDO]),
        (b"n", [Key.NEXT]),
        (b"R", [Key.REDO]),
        (b"q", [Key.STOP]),
        (b"\x03", [Key.INTERRUPT]),
        (b"\x1b\x1b[C", [Key.STOP, Key.NEXT]),
        (b"\x1b[A\x1b[3~x\n", []),
        (b"nr\x1b[Cq", [Key.NEXT, Key.REDO, Key.NEXT, Key.STOP]),
    ],
)
def test_a_sequence_means_its_keys(data: bytes, expected: list[Key]) -> None:
    assert KeyReader().feed(data) == expected


def test_escape_alone_is_known_when_nothing_follows() -> None:
    reader = KeyReader()

    assert reader.feed(b"\x1b") == []
    assert reader.is_waiting
    assert reader.settle() == [Key.STOP]
    assert not reader.is_waiting


@given(data=st.lists(st.sampled_from([b"\x1b[C", b"\x1b[D", b"n", b"r", b"\x1bOC"])), cut=st.integers(0, 30))
def test_keys_do_not_depend_on_how_the_bytes_are_cut(data: list[bytes], cut: int) -> None:
    whole = b"".join(data)
    reader = KeyReader()

    assert reader.feed(whole[:cut]) + reader.feed(whole[cut:]) == KeyReader().feed(whole)
