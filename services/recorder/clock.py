"""One clock for arms and cameras: microseconds since the epoch that never jump.

The wall clock is read once at the start; from then on the monotonic clock, which is the same in every process of a host,
counts. A correction of the wall clock during a recording (NTP, a person) therefore tears no episode apart.
"""

from __future__ import annotations

import time

import msgspec


class Clock(msgspec.Struct, frozen=True):
    """Epoch time from the monotonic clock; give it to other processes of the host as it is.

    Attributes:
        offset_ns: epoch minus monotonic time, taken once.
    """

    offset_ns: int

    @classmethod
    def started(cls) -> Clock:
        """Return a clock that agrees with the wall clock now."""
        return cls(time.time_ns() - time.monotonic_ns())

    def now_us(self) -> int:
        """Return the time in microseconds since the epoch."""
        return (time.monotonic_ns() + self.offset_ns) // 1000

    def at_us(self, monotonic_s: float) -> int:
        """Return the epoch time in microseconds of a moment of ``time.monotonic()``."""
        return (round(monotonic_s * 1e9) + self.offset_ns) // 1000
