"""The arms that this process has open: they are let go together, however it ends.

Decides the order in which torque ends. A packet that needs no answer goes to every follower first; then all arms confirm
at the same time, so that a silent one keeps no other waiting. A process that has no time for that sends the packet alone.

The list belongs to the process, as its signals do: whoever ends the process at once knows none of the arms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.recorder.robots import registers
from services.recorder.robots.errors import RobotUnreachable, TorqueUnconfirmed
from services.recorder.robots.models import JOINTS
from services.recorder.robots.transactions import sync_write
from shared.lifecycle import at_forced_exit

if TYPE_CHECKING:
    from services.recorder.robots.arm import Arm

_TORQUE_OFF = sync_write(dict.fromkeys(JOINTS.values(), 0), registers.TORQUE_ENABLE).to_send
_NUM_ROUNDS = 3
_ROUND_S = 0.005
"""Answers that are on the wire destroy what is sent meanwhile: those of six servos are over sooner."""

_arms: list[Arm] = []


@contextmanager
def held(arm: Arm) -> Iterator[None]:
    """Inside the block, the arm is let go with the others, and loses its torque if the process leaves at once."""
    with at_forced_exit(cut_torque):
        _arms.append(arm)
        try:
            yield
        finally:
            _arms.remove(arm)


def cut_torque() -> None:
    """Tell every follower that its torque is off, without waiting for an answer; takes 15 ms, never raises.

    For a process that leaves at once: it blocks, and what was being asked is spoilt.
    """
    followers = [arm for arm in _arms if arm.is_under_our_torque]
    for _ in range(_NUM_ROUNDS if followers else 0):
        _tell(followers)
        time.sleep(_ROUND_S)


async def let_go() -> None:
    """End the torque of all arms that something was written to, and wait until each of them has confirmed.

    Raises:
        TorqueUnconfirmed: the arms that did not confirm, followers first.
    """
    arms = sorted((arm for arm in _arms if arm.is_to_be_released), key=lambda arm: not arm.plan.is_follower)
    _tell([arm for arm in arms if arm.plan.is_follower])
    problems = [problem for problem in await asyncio.gather(*map(_released, arms)) if problem]
    if problems:
        raise TorqueUnconfirmed("; ".join(problems))


def _tell(followers: list[Arm]) -> None:
    for arm in followers:
        arm.bus.send_unheard(_TORQUE_OFF)


async def _released(arm: Arm) -> str:
    """End the torque of one arm, and return what a person has to know about it."""
    try:
        if arm.bus.is_open:
            await arm.release()
    except RobotUnreachable as error:
        if arm.bus.is_open:
            return str(error)
    finally:
        arm.is_touched = False  # nobody asks a silent arm twice
    if arm.bus.is_open or not arm.plan.is_follower:
        return ""
    return (
        f"{arm.bus.port}: the {arm.plan.label} may still hold its position, its port is gone: switch the arm's power off before touching it"
    )
