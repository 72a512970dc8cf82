"""Keys from a terminal's bytes. Pure.

Right arrow or ``n`` is next, left arrow or ``r`` re-record, Esc or ``q`` stop: LeRobot's keys, and letters for terminals and
pipes that have no arrows. An arrow arrives as Esc, ``[`` or ``O``, and a letter; Esc alone is only known once nothing follows.
"""

from __future__ import annotations

from services.recorder.session import Key

_ESCAPE = 0x1B
_LETTERS = {ord("n"): Key.NEXT, ord("r"): Key.REDO, ord("q"): Key.STOP, 0x03: Key.INTERRUPT}
_ARROWS = {ord("C"): Key.NEXT, ord("D"): Key.REDO}
_INTRODUCERS = b"[O"
LONGEST_SEQUENCE_S = 0.05
"""What a terminal, also one far away, sends as one key comes within this time."""


class KeyReader:
    """Turns bytes into keys, however they are cut."""

    def __init__(self) -> None:
        self._pending = b""

    @property
    def is_waiting(self) -> bool:
        """Whether an Esc has come that may be the beginning of an arrow."""
        return bool(self._pending)

    def feed(self, data: bytes) -> list[Key]:
        """Return the keys that are complete with these bytes."""
        rest, keys = self._pending + data, []
        self._pending = b""
        while rest:
            if rest[0] != _ESCAPE:
                keys += [_LETTERS[letter] for letter in rest[:1].lower() if letter in _LETTERS]
                rest = rest[1:]
                continue
            length = _sequence_length(rest)
            if length == 0:
                self._pending = rest
                break
            if length == 1:
                keys.append(Key.STOP)
            elif length > 2 and rest[length - 1] in _ARROWS:
                keys.append(_ARROWS[rest[length - 1]])
            rest = rest[length:]
        return keys

    def settle(self) -> list[Key]:
        """Return what an Esc meant after which nothing came."""
        pending, self._pending = self._pending, b""
        return [Key.STOP] if pending == bytes([_ESCAPE]) else []


def _sequence_length(data: bytes) -> int:
    """Return how many bytes at the start of ``data``, an Esc, are one key; 0 if more may come."""
    if len(data) == 1:
        return 0
    if data[1] not in _INTRODUCERS:
        return 1
    for index, letter in enumerate(data[2:], start=2):
        if 0x40 <= letter <= 0x7E:  # parameters end with a letter
            return index + 1
    return 0
