"""A robot or a teleoperator: one arm or two, read and driven together.

Decides the order of joints (all left, then all right) and that the arms' buses work at the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from services.recorder.robots.arm import Arm, configured_arm
from services.recorder.robots.models import JOINTS, Kind, RobotOptions, arm_plans
from services.recorder.robots.servo_bus import BusCounts, BusSettings


class Robot:
    """Open arms in order.

    Args:
        robot_type: as the options name it (``bi_so100_follower``).
        arms: one, or left and right.
    """

    def __init__(self, *, robot_type: str, arms: Sequence[Arm]) -> None:
        self.robot_type = robot_type
        self.arms = tuple(arms)
        self.joint_names = tuple(name for arm in arms for name in arm.plan.joint_names)

    async def positions(self) -> tuple[float, ...]:
        """Return where all joints are, in the order of ``joint_names``.

        Raises:
            RobotUnreachable: a servo does not answer, or a port is gone.
        """
        if len(self.arms) == 1:
            return await self.arms[0].positions()
        found = await asyncio.gather(*(arm.positions() for arm in self.arms))
        return tuple(value for values in found for value in values)

    async def send(self, goals: Sequence[float], *, present: Sequence[float] | None = None) -> tuple[float, ...]:
        """Send all joints to their goals and return what was sent; see ``Arm.send``.

        Args:
            goals: in the order of ``joint_names``.
            present: the same, if just read.

        Raises:
            RobotUnreachable: a port is gone, or a servo does not answer.
            ValueError: a goal is not finite, or their number is wrong.
        """
        if len(goals) != len(self.joint_names):
            raise ValueError(f"{len(goals)} goals for {len(self.joint_names)} joints")
        sent: list[float] = []
        for index, arm in enumerate(self.arms):
            part = slice(index * len(JOINTS), (index + 1) * len(JOINTS))
            sent += await arm.send(goals[part], present=None if present is None else present[part])
        return tuple(sent)

    @property
    def counts(self) -> dict[str, BusCounts]:
        """What happened on the bus of each arm, by port."""
        return {arm.bus.port: arm.counts for arm in self.arms}

    async def measured_rate_hz(self, *, num_reads: int = 100) -> float:
        """Return how often per second all joints can be read, measured now.

        Raises:
            RobotUnreachable: a servo does not answer, or a port is gone.
        """
        start_s = time.perf_counter()
        for _ in range(num_reads):
            await self.positions()
        return num_reads / (time.perf_counter() - start_s)


@asynccontextmanager
async def connected_robot(
    options: RobotOptions, *, kind: Kind, environ: Mapping[str, str], settings: BusSettings | None = None
) -> AsyncIterator[Robot]:
    """Open, check and configure every arm for the block; the torque of all ends on every way out.

    Args:
        options: ``--robot.*`` or ``--teleop.*``.
        kind: which of them.
        environ: where LeRobot's calibration files lie.
        settings: patience of the buses; None: the defaults.

    Raises:
        RobotRefused, RobotUnreachable: one sentence, before anything moves.
    """
    async with AsyncExitStack() as stack:
        arms = [
            await stack.enter_async_context(configured_arm(plan, environ=environ, settings=settings))
            for plan in arm_plans(options, kind=kind)
        ]
        yield Robot(robot_type=options.type, arms=arms)
