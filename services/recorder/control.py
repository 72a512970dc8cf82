"""The control loop: leaders drive followers at a fixed rate, and what the arms do is kept while an episode is recorded.

Theory of operation. A timer of the kernel wakes at every tick (``ticker``). Each side, a leader and its follower, is a task of
its own: it reads both arms together, sends the leader's position to the follower as its goal, and waits for the next tick. So a
silent arm delays nobody but its partner. A side that is still busy when a tick comes serves it as soon as it is free; older
ticks are given up. A follower without its leader's position gets no goal and holds the last one.

What is recorded of a side: the follower as measured (``slave``) at the middle of the question to it, and the goal that was sent
(``master``) at the middle of the question to the leader. Saving does not touch the loop: samples go into reserved arrays which
the end of an episode hands over as they are. The collector of cyclic garbage rests while an episode is recorded.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from services.recorder.clock import Clock
from services.recorder.joints import JointRecording
from services.recorder.links import ArmLink, Patience, Side
from services.recorder.priority import real_time_priority
from services.recorder.robots.arm import Arm
from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.robot import Robot
from services.recorder.ticker import TimerMaker, best_timer, ticking
from services.recorder.timing import NS_PER_S, Tick
from services.recorder.tracks import EpisodeTracks, LastSecond

_HEADROOM = 1.25
"""A bus that is just fast enough misses ticks: the rate leaves a fifth of it free."""


class Positions(msgspec.Struct, frozen=True, kw_only=True):
    """Where leaders and followers were last seen, by joint name; an arm that never answered is missing."""

    leader: dict[str, float]
    follower: dict[str, float]


class ControlStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop runs now.

    Attributes:
        rate_hz: samples of the slowest arm in the last whole second; 0 before the first.
        late_share: of the ticks of that second, those given up or more than a period late.
        num_samples_by_arm: since the loop was made.
        bus_errors_by_arm: the same.
        silent_arms: arms that have been reported and do not answer yet.
        is_real_time: the system lets the loop go before other programs.
    """

    rate_hz: float = 0.0
    late_share: float = 0.0
    num_samples_by_arm: dict[str, int]
    bus_errors_by_arm: dict[str, int]
    silent_arms: tuple[str, ...] = ()
    is_real_time: bool = False


class ControlLoop:
    """Drives a robot from a teleoperator.

    Args:
        robot: followers.
        teleop: leaders, as many.
        rate_hz: ticks per second.
        clock: of the recording.
        on_problem: told in a sentence when an arm falls silent.
        patience: with an arm.
        timer_maker: what wakes the loop.

    Raises:
        RobotRefused: the two have different joints or units.
    """

    def __init__(
        self,
        robot: Robot,
        teleop: Robot,
        *,
        rate_hz: float,
        clock: Clock,
        on_problem: Callable[[str], None],
        patience: Patience | None = None,
        timer_maker: TimerMaker = best_timer,
    ) -> None:
        _check_partners(robot, teleop)
        self.rate_hz = rate_hz
        self._clock = clock
        self._timer_maker = timer_maker

        def linked(arm: Arm, role: str) -> ArmLink:
            return ArmLink(arm, name=f"{arm.plan.prefix}{role}", patience=patience or Patience(), on_problem=on_problem)

        self._sides = [
            Side(leader=linked(leader, "master"), follower=linked(follower, "slave"))
            for leader, follower in zip(teleop.arms, robot.arms, strict=True)
        ]
        self._links = [link for side in self._sides for link in (side.follower, side.leader)]
        self._waiting: list[asyncio.Future[None]] = []
        self._tick_index = 0
        self._is_real_time = False
        self._episode: EpisodeTracks | None = None
        self._second = LastSecond(self._links, period_ns=round(NS_PER_S / rate_hz))

    async def run(self) -> None:
        """Drive until cancelled.

        Raises:
            RobotUnreachable: an arm stayed silent for too long, or its port is gone.
        """
        timer = ticking(rate_hz=self.rate_hz, on_tick=self._on_tick, timer_maker=self._timer_maker)
        with _garbage_frozen(), real_time_priority() as self._is_real_time, timer:
            try:
                async with asyncio.TaskGroup() as group:
                    for side in self._sides:
                        group.create_task(self._drive(side))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0]  # noqa: B904 - the group says nothing more

    def begin(self) -> None:
        """Keep samples from the next tick on.

        Raises:
            ValueError: an episode is being recorded.
        """
        if self._episode is not None:
            raise ValueError("an episode is being recorded already")
        gc.disable()
        self._episode = EpisodeTracks(self._sides, rate_hz=self.rate_hz)

    def end(self) -> JointRecording:
        """Return the samples since ``begin``; nothing is copied.

        Raises:
            ValueError: no episode is being recorded.
        """
        if self._episode is None:
            raise ValueError("no episode is being recorded")
        episode, self._episode = self._episode, None
        recording = episode.recording()
        gc.enable()  # the collector does in the gap, at its own time, what it did not do meanwhile
        return recording

    @property
    def positions(self) -> Positions:
        """Where the joints were last seen."""
        return Positions(
            leader=_last_positions(side.leader for side in self._sides),
            follower=_last_positions(side.follower for side in self._sides),
        )

    @property
    def status(self) -> ControlStatus:
        """How the loop runs now."""
        return ControlStatus(
            rate_hz=self._second.rate_hz,
            late_share=self._second.late_share,
            num_samples_by_arm={link.name: link.num_samples for link in self._links},
            bus_errors_by_arm={link.name: link.num_errors for link in self._links},
            silent_arms=tuple(link.name for link in self._links if link.is_reported),
            is_real_time=self._is_real_time,
        )

    def _on_tick(self, tick: Tick) -> None:
        self._tick_index = tick.index
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        self._second.add(tick)
        if self._episode is not None:
            self._episode.ticks.add(tick)

    async def _drive(self, side: Side) -> None:
        served_index = self._tick_index
        while True:
            if self._tick_index == served_index:
                future = asyncio.get_running_loop().create_future()
                self._waiting.append(future)
                await future
            served_index = self._tick_index
            episode = self._episode
            step = await side.step()
            if episode is not None:
                episode.add(side, step, clock=self._clock)


async def reachable_rate(robot: Robot, teleop: Robot, *, wanted_hz: float) -> tuple[float, str | None]:
    """Measure how often all arms can be asked, and return the rate to run at and, if it is lower than wanted, a sentence.

    Args:
        robot: followers.
        teleop: leaders.
        wanted_hz: the configured rate.

    Raises:
        RobotUnreachable: a servo does not answer, or a port is gone.
    """
    possible_hz = min(await asyncio.gather(robot.measured_rate_hz(), teleop.measured_rate_hz())) / _HEADROOM
    if possible_hz >= wanted_hz:
        return wanted_hz, None
    rate_hz = float(max(1, math.floor(possible_hz)))
    return rate_hz, (
        f"the control rate is {rate_hz:.0f} Hz instead of {wanted_hz:g}: the arms answer {possible_hz * _HEADROOM:.0f} times a second "
        "at most, and a fifth of that is kept in reserve"
    )


def _check_partners(robot: Robot, teleop: Robot) -> None:
    followers, leaders = ([unit for arm in one.arms for unit in arm.joint_units.items()] for one in (robot, teleop))
    if followers != leaders:
        raise RobotRefused(
            f"--robot.type={robot.robot_type} has {_units_text(followers)}; --teleop.type={teleop.robot_type} has {_units_text(leaders)}: "
            "expected the same joints in the same units: choose types that belong together, and the same use_degrees"
        )


def _units_text(units: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({unit})" for name, unit in units)


def _last_positions(links: Iterable[ArmLink]) -> dict[str, float]:
    return {
        name: value
        for link in links
        if link.last is not None
        for name, value in zip(link.arm.plan.joint_names, link.last.values, strict=True)
    }


@contextmanager
def _garbage_frozen() -> Iterator[None]:
    """Take what lives now out of the collector's sight, so that its later runs are short; on the way out it sees all again."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()
