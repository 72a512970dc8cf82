"""Arms as the control loop sees them: asked once a tick, forgiven a failure, given up after too long a silence.

Decides when a silence is worth a sentence and when it ends the loop. A single failed question costs one sample: the next
tick is the retry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from services.recorder.robots.arm import Arm, Sample
from services.recorder.robots.errors import RobotUnreachable

_CLIPPED_BY = 1e-6
"""The arithmetic of ``max_relative_target`` alone changes a goal by less."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long the loop waits.

    Attributes:
        answer_s: for the host and its adapter, beyond the time on the wire, before a question has failed.
        report_s: an arm that is silent for so long is a problem to be told.
        silence_s: an arm that is silent for so long ends the loop.
    """

    answer_s: float = 0.02
    report_s: float = 0.2
    silence_s: float = 2.0


class ArmLink:
    """An arm in the loop.

    Args:
        arm: open and configured.
        name: of its file in a raw episode (``left_slave``).
        patience: with it.
        on_problem: told once per silence, in a sentence.
    """

    def __init__(self, arm: Arm, *, name: str, patience: Patience, on_problem: Callable[[str], None]) -> None:
        self.arm = arm
        self.name = name
        self.num_samples = 0
        self.num_errors = 0
        self.last: Sample | None = None
        self.is_reported = False
        self._patience = patience
        self._on_problem = on_problem
        self._silent_since_s: float | None = None

    async def sample(self) -> Sample | None:
        """Return where the joints are; None if the arm did not answer this time.

        Raises:
            RobotUnreachable: it has been silent for too long, or its port is gone.
        """
        try:
            self.last = await self.arm.sample(num_retries=0, margin_s=self._patience.answer_s)
        except RobotUnreachable as error:
            self._failed(error)
            return None
        self.num_samples += 1
        self._silent_since_s = None
        self.is_reported = False
        return self.last

    async def send(self, goals: Sequence[float], *, present: Sequence[float] | None) -> tuple[float, ...] | None:
        """Send goals and return what was sent; None if that failed, or if a limited arm did not say where it is.

        Raises:
            RobotUnreachable: it has been silent for too long, or its port is gone.
        """
        if present is None and self.arm.is_limited:
            return None
        try:
            return await self.arm.send(goals, present=present)
        except RobotUnreachable as error:
            self._failed(error)
            return None

    def _failed(self, error: RobotUnreachable) -> None:
        """Count a failure; tell it, or give up, if it has lasted."""
        self.num_errors += 1
        now_s = time.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s = now_s
        silent_s = now_s - self._silent_since_s
        is_gone = not self.arm.bus.is_open
        if not self.is_reported and (is_gone or silent_s >= self._patience.report_s):
            self.is_reported = True
            self._on_problem(str(error))
        if is_gone:
            raise error
        if silent_s >= self._patience.silence_s:
            raise RobotUnreachable(f"{error} (silent for {silent_s:.1f} s: the recording ends)") from error


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One tick of one side.

    Attributes:
        measured: the follower; None: it did not answer.
        sent: the goal as sent, with the time of the leader's position; None: nothing was sent.
        is_clipped: ``max_relative_target`` held the goal back.
    """

    measured: Sample | None
    sent: Sample | None
    is_clipped: bool = False


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A leader and the follower that it drives."""

    leader: ArmLink
    follower: ArmLink

    async def step(self) -> Step:
        """Read both arms together, then send the leader's position to the follower; without one, it holds its last goal.

        Raises:
            RobotUnreachable: see ``ArmLink``.
        """
        wanted, measured = await asyncio.gather(self.leader.sample(), self.follower.sample())
        if wanted is None:
            return Step(measured=measured, sent=None)
        sent = await self.follower.send(wanted.values, present=None if measured is None else measured.values)
        if sent is None:
            return Step(measured=measured, sent=None)
        is_clipped = any(abs(goal - one) > _CLIPPED_BY for goal, one in zip(wanted.values, sent, strict=True))
        return Step(measured=measured, sent=Sample(sent, wanted.time_s), is_clipped=is_clipped)
