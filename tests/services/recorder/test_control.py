"""The control loop over a simulated robot that shares its event loop."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from services.recorder.clock import Clock
from services.recorder.control import ControlLoop, reachable_rate
from services.recorder.joints import JointRecording
from services.recorder.links import Patience
from services.recorder.robots import registers
from services.recorder.robots.errors import RobotRefused, RobotUnreachable
from services.recorder.robots.models import JOINTS
from services.recorder.robots.robot import Robot
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot
from tests.services.recorder.loops import CALM, Driving, connected, driven, single

ARMS = ["left_master", "left_slave", "right_master", "right_slave"]
QUICK = Patience(answer_s=0.02, report_s=0.05, silence_s=60.0)


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedRobot]:
    with simulated_robot() as running:
        yield running


def goals(simulated: SimulatedRobot, port_name: str) -> list[int]:
    return [simulated.servo(port_name, joint).get(registers.GOAL_POSITION) for joint in JOINTS]


def column(recording: JointRecording, arm: str, joint: str) -> np.ndarray:
    found = recording.arms[arm]
    return found.values[:, found.joint_names.index(joint)]


async def test_an_episode_holds_what_was_measured_and_what_was_sent(tmp_path: Path, simulated: SimulatedRobot) -> None:
    clock = Clock.started()
    async with driven(simulated, tmp_path) as driving:
        await driving.until(lambda: driving.num_sampled("right_slave") > 100)  # the followers have caught up
        start_us = clock.now_us()
        recording = await driving.recorded(lambda: driving.num_sampled("right_slave") > 250)
        last_us = clock.now_us()

    assert sorted(recording.arms) == ARMS
    for name, arm in recording.arms.items():
        assert arm.joint_names == tuple(f"{name.split('_')[0]}_{joint}" for joint in JOINTS)
        assert len(arm.times_us) == len(arm.values) == recording.report.num_samples_by_arm[name] > 50
        assert (np.diff(arm.times_us) > 0).all()
        assert start_us - 10_000 < arm.times_us[0] < arm.times_us[-1] < last_us + 10_000
    sent, measured = (column(recording, f"left_{role}", "left_elbow_flex") for role in ("master", "slave"))
    assert np.ptp(sent) > 1
    assert np.abs(sent[:50] - measured[:50]).max() < 15


async def test_the_report_counts_ticks_and_rate(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path, rate_hz=100.0) as driving:
        report = (await driving.recorded(lambda: driving.num_sampled("left_master") >= 40)).report

    assert report.wanted_rate_hz == 100.0
    assert 0 < report.measured_rate_hz < 110
    assert report.num_ticks + report.num_missed >= 38
    assert report.lateness.max_us >= report.lateness.p99_us >= report.lateness.p50_us > 0
    assert report.longest_gap_ms >= 9
    assert (report.num_clipped, set(report.bus_errors_by_arm.values())) == (0, {0})


async def test_each_episode_begins_empty(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path) as driving:
        first = await driving.recorded(lambda: driving.num_sampled("left_slave") > 20)
        second = await driving.recorded(lambda: driving.num_sampled("left_slave") > 40)

    for arm in ARMS:
        assert second.arms[arm].times_us[0] > first.arms[arm].times_us[-1]


async def test_an_episode_ends_once_and_only_after_it_began(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path) as driving:
        with pytest.raises(ValueError, match="no episode"):
            driving.loop.end()
        driving.loop.begin()
        with pytest.raises(ValueError, match="already"):
            driving.loop.begin()
        report = driving.loop.end().report

    assert report.measured_rate_hz == 0.0
    assert set(report.num_samples_by_arm.values()) == {0}


async def test_the_collector_rests_only_while_an_episode_is_recorded(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path) as driving:
        await driving.recorded(lambda: not gc.isenabled() and driving.num_sampled("left_slave") > 0)
        is_enabled_between = gc.isenabled()
        driving.loop.begin()

    assert is_enabled_between
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_a_single_arm_is_recorded_without_a_side(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with single(simulated, tmp_path) as (robot, teleop):
        driving = Driving(robot, teleop, rate_hz=200.0, patience=CALM)
        recording = await driving.recorded(lambda: driving.num_sampled("master") > 5)
        driving.task.cancel()
        await asyncio.wait({driving.task})

    assert sorted(recording.arms) == ["master", "slave"]
    assert recording.arms["slave"].joint_names == tuple(JOINTS)


class HandTimer:
    """A timer that expires when the test says so."""

    def __init__(self, on_expiry: Callable[[], None]) -> None:
        self.fire = on_expiry

    def set(self, at_ns: int) -> None:
        pass

    def close(self) -> None:
        pass


async def test_a_side_that_was_busy_serves_the_last_tick_that_passed_and_no_older_one(tmp_path: Path, simulated: SimulatedRobot) -> None:
    timers: list[HandTimer] = []

    def timer_maker(on_expiry: Callable[[], None]) -> HandTimer:
        timers.append(HandTimer(on_expiry))
        return timers[-1]

    simulated.terminals["left_leader"].line.faults = Faults(slow=40)
    async with driven(simulated, tmp_path, timer_maker=timer_maker) as driving:
        await driving.until(lambda: bool(timers))
        for _ in range(4):
            timers[0].fire()
            await asyncio.sleep(0)
        await driving.until(lambda: driving.num_sampled("left_master") == 2)
        timers[0].fire()
        await driving.until(lambda: driving.num_sampled("left_master") == 3)

        assert driving.num_sampled("left_slave") == 3


async def test_a_silent_arm_takes_no_tick_from_the_other_side(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path, patience=QUICK) as driving:
        await driving.until(lambda: driving.num_sampled("left_slave") > 10)
        simulated.terminals["left_follower"].line.faults = Faults(silence=0.0)
        recording = await driving.recorded(lambda: driving.loop.status.bus_errors_by_arm["left_slave"] >= 6)
        silent_arms = driving.loop.status.silent_arms

    counts = recording.report.num_samples_by_arm
    assert counts["left_slave"] <= 1
    assert counts["right_slave"] > 3 * counts["left_master"]
    assert silent_arms == ("left_slave",)
    assert len(driving.problems) == 1
    assert "left_shoulder_pan" in driving.problems[0]


async def test_a_follower_without_its_leader_holds_and_is_still_recorded(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path, patience=QUICK) as driving:
        await driving.until(lambda: driving.num_sampled("left_slave") > 10)
        simulated.terminals["left_leader"].line.faults = Faults(silence=0.0)
        await driving.until(lambda: driving.loop.status.bus_errors_by_arm["left_master"] >= 2)
        held = goals(simulated, "left_follower")
        recording = await driving.recorded(lambda: driving.loop.status.bus_errors_by_arm["left_master"] >= 6)

        assert goals(simulated, "left_follower") == held

    counts = recording.report.num_samples_by_arm
    assert counts["left_master"] == 0
    assert counts["left_slave"] >= 3


async def test_an_arm_that_stays_away_ends_the_loop_after_it_was_reported(tmp_path: Path, simulated: SimulatedRobot) -> None:
    patience = Patience(answer_s=0.02, report_s=0.03, silence_s=0.2)
    async with driven(simulated, tmp_path, patience=patience) as driving:
        await driving.until(lambda: driving.num_sampled("right_master") > 5)
        driving.loop.begin()
        simulated.terminals["right_leader"].line.faults = Faults(silence=0.0)
        with pytest.raises(RobotUnreachable, match=r"right_gripper.*silent for \d\.\d s"):
            async with asyncio.timeout(20):
                await driving.task

        assert len(driving.problems) == 1
        assert driving.loop.end().report.bus_errors_by_arm["right_master"] > 1


async def test_an_unplugged_arm_ends_the_loop_at_once(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async def session() -> None:
        async with driven(simulated, tmp_path) as driving:
            await driving.until(lambda: driving.num_sampled("left_slave") > 5)
            simulated.terminals["left_follower"].close()
            problems.append(driving.problems)
            async with asyncio.timeout(20):
                await driving.task

    problems: list[list[str]] = []
    with pytest.raises(RobotUnreachable, match="the port is gone"):
        await session()

    assert [len(told) for told in problems] == [1]


async def test_a_damaged_answer_costs_one_sample(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path, patience=Patience(answer_s=5.0)) as driving:
        await driving.until(lambda: driving.num_sampled("left_slave") > 5)
        simulated.terminals["left_follower"].line.faults = Faults(corrupt=61)  # one answer in about ten
        recording = await driving.recorded(lambda: driving.num_sampled("left_slave") > 100)

    report = recording.report
    assert 5 < report.bus_errors_by_arm["left_slave"] < 15
    assert report.num_samples_by_arm["left_master"] >= report.num_samples_by_arm["left_slave"] + report.bus_errors_by_arm["left_slave"] - 1
    assert driving.problems == []


async def test_a_limit_clips_goals_and_what_was_sent_is_recorded(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path, max_relative_target=0.5) as driving:
        recording = await driving.recorded(lambda: driving.num_sampled("left_slave") > 30)

    distance = np.abs(recording.arms["left_master"].values - recording.arms["left_slave"].values)
    assert recording.report.num_clipped > 20
    assert distance.max() < 0.5001


async def test_status_and_positions_follow_the_loop(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with driven(simulated, tmp_path) as driving:
        before = driving.loop.positions
        await driving.until(lambda: driving.loop.status.rate_hz > 0)
        status, positions = driving.loop.status, driving.loop.positions

    names = {f"{side}_{joint}" for side in ("left", "right") for joint in JOINTS}
    assert before.leader == before.follower == {}
    assert set(positions.leader) == set(positions.follower) == names
    assert 0 < status.rate_hz < 250
    assert 0 <= status.late_share <= 1
    assert status.silent_arms == ()


async def test_partners_with_other_units_are_refused_with_both_lists(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with connected(simulated, tmp_path, use_degrees=True) as (robot, teleop):
        with pytest.raises(RobotRefused, match=r"left_shoulder_pan \(degrees\).*left_shoulder_pan \(-100\.\.100\).*use_degrees"):
            ControlLoop(robot, teleop, rate_hz=200, clock=Clock.started(), on_problem=print)
        one = Robot(robot_type="one", arms=teleop.arms[:1])
        with pytest.raises(RobotRefused, match="expected the same joints"):
            ControlLoop(robot, one, rate_hz=200, clock=Clock.started(), on_problem=print)


async def test_a_rate_that_the_arms_reach_stays(tmp_path: Path, simulated: SimulatedRobot) -> None:
    async with connected(simulated, tmp_path) as (robot, teleop):
        assert await reachable_rate(robot, teleop, wanted_hz=2.0) == (2.0, None)


async def test_a_rate_that_the_arms_do_not_reach_is_lowered_in_a_sentence(tmp_path: Path, simulated: SimulatedRobot) -> None:
    simulated.terminals["left_leader"].line.faults = Faults(slow=10)
    async with connected(simulated, tmp_path) as (robot, teleop):
        rate_hz, sentence = await reachable_rate(robot, teleop, wanted_hz=200.0)

    assert 1 <= rate_hz < 100
    assert sentence is not None
    assert f"{rate_hz:.0f} Hz instead of 200" in sentence
