"""When ticks are due, how late they begin, and what is said about it afterwards. Pure: time is an argument.

Decides which tick comes next and what counts as late. Ticks are due at ``start + k / rate`` by integer arithmetic, so that an
hour of them is an hour. A tick that begins more than one period late gives up those that passed meanwhile: a follower that
is told three old goals in a row moves no better than with the last one.

Lateness is kept as a histogram: an episode of any length is summed up in the same short time.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np

NS_PER_S = 1_000_000_000
_BUCKET_US = 10
_NUM_BUCKETS = 10_000
"""Lateness up to 100 ms in steps of 10 us; what is later is in the last bucket, and the maximum is exact."""


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that begins: its index, when (ns), how long after it was due, and how many behind it were given up for that."""

    index: int
    begun_ns: int
    late_ns: int
    num_missed: int = 0


class Schedule:
    """Ticks at a rate.

    Args:
        start_ns: when tick 0 is due, on the clock of the caller.
        rate_hz: ticks per second, above 0; whole thousandths of a hertz are kept exactly.
    """

    def __init__(self, *, start_ns: int, rate_hz: float) -> None:
        rate = Fraction(rate_hz).limit_denominator(1000)
        if rate <= 0:
            raise ValueError(f"a rate of {rate_hz} Hz has no ticks")
        self._start_ns = start_ns
        self._numerator, self._denominator = rate.numerator, rate.denominator * NS_PER_S
        self.period_ns = self._denominator // self._numerator

    def due_ns(self, index: int) -> int:
        """Return when a tick is due."""
        return self._start_ns + index * self._denominator // self._numerator

    def begun(self, index: int, *, now_ns: int) -> Tick:
        """Return the tick that begins now; over a period late, it gives up those that are due meanwhile."""
        late_ns = now_ns - self.due_ns(index)
        num_missed = 0
        if late_ns > self.period_ns:
            last = (now_ns - self._start_ns) * self._numerator // self._denominator
            num_missed = last - index + (self.due_ns(last + 1) <= now_ns)
        return Tick(index=index, begun_ns=now_ns, late_ns=late_ns, num_missed=num_missed)


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution in microseconds: percentiles to 10 us, and the exact maximum."""

    p50_us: int = 0
    p95_us: int = 0
    p99_us: int = 0
    max_us: int = 0


class LoopReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the control loop ran during one episode.

    Attributes:
        wanted_rate_hz: the rate of the ticks.
        measured_rate_hz: samples per second of the slowest arm; 0 with fewer than two samples.
        num_ticks: ticks that began.
        num_missed: ticks that never began because the one before was more than a period late.
        num_late_2_periods: ticks that began more than two periods after the one before them.
        lateness: how long after its time each tick began (jitter).
        longest_gap_ms: between two samples of an arm.
        num_clipped: goals that ``max_relative_target`` held back.
        num_samples_by_arm: samples kept.
        bus_errors_by_arm: questions and goals that failed; each costs one sample.
    """

    wanted_rate_hz: float
    measured_rate_hz: float
    num_ticks: int
    num_missed: int
    num_late_2_periods: int
    lateness: Percentiles
    longest_gap_ms: float
    num_clipped: int
    num_samples_by_arm: dict[str, int]
    bus_errors_by_arm: dict[str, int]


class TickCounts:
    """What became of ticks; the memory it needs does not grow.

    Args:
        period_ns: between two ticks.
    """

    def __init__(self, *, period_ns: int) -> None:
        self.num_ticks = 0
        self.num_missed = 0
        self.num_late_2_periods = 0
        self._most_ns = 2 * period_ns
        self._begun_ns: int | None = None
        self._max_ns = 0
        self._buckets = [0] * _NUM_BUCKETS

    def add(self, tick: Tick) -> None:
        """Count a tick."""
        self.num_ticks += 1
        self.num_missed += tick.num_missed
        if self._begun_ns is not None and tick.begun_ns - self._begun_ns > self._most_ns:
            self.num_late_2_periods += 1
        self._begun_ns = tick.begun_ns
        self._max_ns = max(self._max_ns, tick.late_ns)
        self._buckets[min(_NUM_BUCKETS - 1, max(0, tick.late_ns) // (_BUCKET_US * 1000))] += 1

    @property
    def lateness(self) -> Percentiles:
        """The distribution of lateness; a percentile is the upper end of its bucket, at most the maximum."""
        if not self.num_ticks:
            return Percentiles()
        cumulative = np.cumsum(self._buckets)
        max_us = -(-self._max_ns // 1000)
        p50, p95, p99 = (
            min(max_us, (int(np.searchsorted(cumulative, share * self.num_ticks)) + 1) * _BUCKET_US) for share in (0.5, 0.95, 0.99)
        )
        return Percentiles(p50_us=p50, p95_us=p95, p99_us=p99, max_us=max_us)
