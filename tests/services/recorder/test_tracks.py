"""What is kept of the loop, with arms that nobody opened."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from services.recorder.clock import Clock
from services.recorder.links import Side, Step
from services.recorder.robots.arm import Sample
from services.recorder.timing import NS_PER_S, Tick
from services.recorder.tracks import EpisodeTracks, LastSecond

CLOCK = Clock(offset_ns=NS_PER_S)


def link(name: str, *, num_errors: int = 0) -> Any:
    plan = SimpleNamespace(joint_names=("first", "second"))
    return SimpleNamespace(name=name, num_errors=num_errors, num_samples=0, arm=SimpleNamespace(plan=plan))


def side() -> Side:
    return Side(leader=link("master", num_errors=7), follower=link("slave"))


def test_a_step_without_an_answer_adds_no_sample_of_that_arm() -> None:
    one = side()
    tracks = EpisodeTracks([one], rate_hz=200)
    both = Step(measured=Sample((1.0, 2.0), 3.0), sent=Sample((4.0, 5.0), 3.001))
    for step in (both, Step(measured=None, sent=None), Step(measured=Sample((6.0, 7.0), 3.02), sent=None, is_clipped=True)):
        tracks.add(one, step, clock=CLOCK)
    one.leader.num_errors += 2

    found = tracks.recording()

    assert found.arms["slave"].times_us.tolist() == [4_000_000, 4_020_000]
    assert found.arms["slave"].values.tolist() == [[1.0, 2.0], [6.0, 7.0]]
    assert found.arms["master"].times_us.tolist() == [4_001_000]
    assert found.report.num_samples_by_arm == {"slave": 2, "master": 1}
    assert found.report.bus_errors_by_arm == {"slave": 0, "master": 2}
    assert (found.report.num_clipped, found.report.longest_gap_ms, found.report.measured_rate_hz) == (1, 20.0, 0.0)


def test_the_rate_of_an_episode_is_that_of_its_slowest_arm() -> None:
    one = side()
    tracks = EpisodeTracks([one], rate_hz=200)
    for index in range(21):
        sample = Sample((0.0, 0.0), index / 200)
        tracks.add(one, Step(measured=sample, sent=sample if index % 2 == 0 else None), clock=CLOCK)

    assert np.isclose(tracks.recording().report.measured_rate_hz, 100.0)


def test_an_arm_that_is_silent_until_the_end_has_a_lower_rate() -> None:
    one = side()
    tracks = EpisodeTracks([one], rate_hz=200)
    for index in range(201):
        sample = Sample((0.0, 0.0), index / 200)
        tracks.add(one, Step(measured=sample, sent=sample if index <= 50 else None), clock=CLOCK)

    assert np.isclose(tracks.recording().report.measured_rate_hz, 50.0)


def test_ticks_go_on_when_all_arms_are_silent() -> None:
    one = side()
    tracks = EpisodeTracks([one], rate_hz=200)
    for index in range(402):
        tracks.ticks.add(Tick(index=index, begun_ns=index * NS_PER_S // 200, late_ns=0))
        if index <= 100:
            sample = Sample((0.0, 0.0), index / 200)
            tracks.add(one, Step(measured=sample, sent=sample), clock=CLOCK)

    assert np.isclose(tracks.recording().report.measured_rate_hz, 50.0)


def test_the_last_second_counts_samples_of_the_slowest_arm_and_late_ticks() -> None:
    quick, slow = link("slave"), link("master")
    second = LastSecond([quick, slow], period_ns=NS_PER_S // 10)
    for index in range(1, 23):
        quick.num_samples += 1
        slow.num_samples += index % 2
        is_late = index % 5 == 0
        late_ns = NS_PER_S // 5 if is_late else 0
        second.add(Tick(index=index, begun_ns=NS_PER_S * (50 + index) // 10, late_ns=late_ns, num_missed=int(is_late)))

    assert second.rate_hz == 5.0
    assert np.isclose(second.late_share, 4 / 12)


def test_there_is_no_rate_before_the_first_whole_second() -> None:
    second = LastSecond([link("slave")], period_ns=NS_PER_S // 10)
    second.add(Tick(index=1, begun_ns=77 * NS_PER_S, late_ns=0))

    assert (second.rate_hz, second.late_share) == (0.0, 0.0)
