"""Ticks of a schedule, against counting one by one."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recorder.timing import NS_PER_S, Percentiles, Schedule, Tick, TickCounts

RATES = st.one_of(st.sampled_from([30.0, 60.0, 200.0, 250.0, 29.97]), st.integers(1, 1000).map(float))


@given(rate_hz=RATES, start_ns=st.integers(0, 10**18), index=st.integers(0, 10**7))
def test_a_tick_is_due_at_its_share_of_the_rate_however_far_from_the_start(rate_hz: float, start_ns: int, index: int) -> None:
    exact_ns = start_ns + index * NS_PER_S / Fraction(rate_hz).limit_denominator(1000)

    assert Schedule(start_ns=start_ns, rate_hz=rate_hz).due_ns(index) == exact_ns // 1


@given(rate_hz=RATES, index=st.integers(0, 5000), late_ns=st.integers(-(10**6), 10**8))
def test_only_a_tick_over_a_period_late_gives_up_those_that_passed_meanwhile(rate_hz: float, index: int, late_ns: int) -> None:
    schedule = Schedule(start_ns=77, rate_hz=rate_hz)
    now_ns = schedule.due_ns(index) + late_ns
    passed = 0
    while schedule.due_ns(index + 1 + passed) <= now_ns:
        passed += 1

    tick = schedule.begun(index, now_ns=now_ns)

    assert tick == Tick(index=index, begun_ns=now_ns, late_ns=late_ns, num_missed=passed if late_ns > schedule.period_ns else 0)


@pytest.mark.parametrize("rate_hz", [0.0, -1.0])
def test_a_rate_without_ticks_is_a_mistake_of_the_caller(rate_hz: float) -> None:
    with pytest.raises(ValueError, match="has no ticks"):
        Schedule(start_ns=0, rate_hz=rate_hz)


@given(late_us=st.lists(st.integers(0, 90_000), min_size=1, max_size=300))
def test_percentiles_of_lateness_are_right_to_a_bucket_and_the_maximum_is_exact(late_us: list[int]) -> None:
    counts = TickCounts(period_ns=5_000_000)
    for index, late in enumerate(late_us):
        counts.add(Tick(index=index, begun_ns=index, late_ns=late * 1000))

    found = counts.lateness

    for share, value in ((50, found.p50_us), (95, found.p95_us), (99, found.p99_us)):
        assert value - 10 <= np.percentile(late_us, share, method="inverted_cdf") <= value
    assert found.max_us == max(late_us)


def test_lateness_beyond_every_bucket_is_still_the_maximum() -> None:
    counts = TickCounts(period_ns=5_000_000)
    counts.add(Tick(index=0, begun_ns=0, late_ns=3 * NS_PER_S))

    assert counts.lateness.max_us == 3_000_000
    assert TickCounts(period_ns=1).lateness == Percentiles()


def test_ticks_more_than_two_periods_after_the_last_and_those_given_up_are_counted() -> None:
    counts = TickCounts(period_ns=5)
    for index, begun_ns in enumerate([0, 5, 15, 26, 30]):
        counts.add(Tick(index=index, begun_ns=begun_ns, late_ns=0, num_missed=index % 2))

    assert (counts.num_ticks, counts.num_missed, counts.num_late_2_periods) == (5, 2, 1)
