"""A control loop over the simulated robot, for the tests of what it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from services.recorder.clock import Clock
from services.recorder.control import ControlLoop
from services.recorder.joints import JointRecording
from services.recorder.links import Patience
from services.recorder.robots.models import Kind, RobotOptions
from services.recorder.robots.robot import Robot, connected_robot
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot
from services.recorder.ticker import best_timer
from tests.services.recorder.arms import PATIENT, ROBOT_ID, bimanual, places

ROLES: dict[Kind, str] = {"robot": "follower", "teleop": "leader"}
CALM = Patience(answer_s=0.5)
"""A busy machine answers late; only a test about silence is impatient."""


@asynccontextmanager
async def connected(simulated: SimulatedRobot, folder: Path, **robot_options: object) -> AsyncIterator[tuple[Robot, Robot]]:
    """Give followers and leaders."""
    environ = places(folder)
    async with AsyncExitStack() as stack:
        robot = await stack.enter_async_context(
            connected_robot(bimanual(simulated, "follower", **robot_options), kind="robot", environ=environ, settings=PATIENT)
        )
        teleop = await stack.enter_async_context(
            connected_robot(bimanual(simulated, "leader"), kind="teleop", environ=environ, settings=PATIENT)
        )
        yield robot, teleop


@asynccontextmanager
async def single(simulated: SimulatedRobot, folder: Path) -> AsyncIterator[tuple[Robot, Robot]]:
    """Give the left arms as a robot of one arm and its leader."""
    environ = places(folder)
    for path in folder.rglob(f"{ROBOT_ID}_left.json"):
        path.rename(path.with_name(f"{ROBOT_ID}.json"))
    async with AsyncExitStack() as stack:
        robot, teleop = [
            await stack.enter_async_context(
                connected_robot(
                    RobotOptions(type=f"so100_{role}", id=ROBOT_ID, port=simulated.ports[f"left_{role}"]),
                    kind=kind,
                    environ=environ,
                    settings=PATIENT,
                )
            )
            for kind, role in ROLES.items()
        ]
        yield robot, teleop


class Driving:
    """A running loop, the problems it told, and its task."""

    def __init__(self, robot: Robot, teleop: Robot, *, rate_hz: float, patience: Patience, timer_maker: Any = best_timer) -> None:
        self.problems: list[str] = []
        self.loop = ControlLoop(
            robot,
            teleop,
            rate_hz=rate_hz,
            clock=Clock.started(),
            on_problem=self.problems.append,
            patience=patience,
            timer_maker=timer_maker,
        )
        self.task = asyncio.create_task(self.loop.run())

    async def until(self, is_reached: Callable[[], bool]) -> None:
        """Wait until something holds; raises what ended the loop."""
        async with asyncio.timeout(20):
            while not is_reached():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def recorded(self, is_enough: Callable[[], bool]) -> JointRecording:
        """Record until something holds."""
        self.loop.begin()
        await self.until(is_enough)
        return self.loop.end()

    def num_sampled(self, name: str) -> int:
        """Return how often an arm has answered so far."""
        return self.loop.status.num_samples_by_arm[name]


@asynccontextmanager
async def driven(
    simulated: SimulatedRobot,
    folder: Path,
    *,
    rate_hz: float = 200.0,
    patience: Patience = CALM,
    timer_maker: Any = best_timer,
    **robot_options: object,
) -> AsyncIterator[Driving]:
    """Drive for the block."""
    async with connected(simulated, folder, **robot_options) as (robot, teleop):
        driving = Driving(robot, teleop, rate_hz=rate_hz, patience=patience, timer_maker=timer_maker)
        try:
            yield driving
        finally:
            driving.task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await driving.task
            for terminal in simulated.terminals.values():  # an arm that answers is released at once
                terminal.line.faults = Faults()
