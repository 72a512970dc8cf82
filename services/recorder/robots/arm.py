"""One arm: checked, configured, read and driven; its torque ends on every way out.

Decides the order of what is written to the servos (LeRobot's) and what is refused before anything moves. Nothing is
written before every check has passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.recorder.robots import registers
from services.recorder.robots.calibration import calibration_folder, read_calibration
from services.recorder.robots.errors import RobotRefused, RobotUnreachable
from services.recorder.robots.held import held, let_go
from services.recorder.robots.models import GRIPPER, JOINTS, ArmPlan
from services.recorder.robots.normalisation import Calibration, Unit, normalised, unnormalised
from services.recorder.robots.servo_bus import BusCounts, BusSettings, ServoBus

SERVO_IDS = tuple(JOINTS.values())
_RELEASE_RETRIES = 5
_RELEASE_RETRIES_AFTER_SILENCE = 1
"""A bus with a silent servo is often silent altogether; nobody waits a minute for the end of a session."""


class Sample(msgspec.Struct, frozen=True):
    """Where the joints were (J,) in their units, and when: seconds of the monotonic clock."""

    values: tuple[float, ...]
    time_s: float


class Arm:
    """An open arm.

    Args:
        plan: what it is.
        calibration: by joint; None while it is being calibrated.
        bus: its servos.
    """

    def __init__(self, *, plan: ArmPlan, calibration: Calibration | None, bus: ServoBus) -> None:
        self.plan = plan
        self.bus = bus
        self.is_touched = False
        self._joints = list(calibration.values()) if calibration else []
        self._calibration = calibration
        body = Unit.DEGREES if plan.is_in_degrees else Unit.M100_100
        self._units = [Unit.ZERO_100 if joint == GRIPPER else body for joint in JOINTS]
        limit = plan.max_relative_target
        self._max_steps = [limit[joint] for joint in JOINTS] if isinstance(limit, dict) else limit and [limit] * len(JOINTS)

    @property
    def counts(self) -> BusCounts:
        """What happened on its bus."""
        return self.bus.counts

    @property
    def is_to_be_released(self) -> bool:
        """Whether something was written to it since it was let go, and nobody wants to keep its torque."""
        return self.is_touched and not self.plan.is_torque_kept

    @property
    def is_under_our_torque(self) -> bool:
        """Whether it may hold its position because we told it to."""
        return self.is_to_be_released and self.plan.is_follower

    @property
    def is_limited(self) -> bool:
        """Whether ``max_relative_target`` may clip a goal."""
        return bool(self._max_steps)

    @property
    def joint_units(self) -> dict[str, str]:
        """The unit of each joint by its name, in order."""
        return {name: unit.value for name, unit in zip(self.plan.joint_names, self._units, strict=True)}

    async def identify(self) -> None:
        """Check that six servos of the right model and of one firmware answer.

        Raises:
            RobotUnreachable: servos do not answer.
            RobotRefused: another model, or different firmware.
        """
        missing = [servo_id for servo_id in SERVO_IDS if not await self.bus.is_there(servo_id)]
        if missing:
            cause = (
                "the arm's power supply, and that the port is the arm's"
                if len(missing) == len(SERVO_IDS)
                else "the cable to the first of them"
            )
            raise RobotUnreachable(f"{self.bus.port}: no answer from {self.bus.named(missing)}, expected six servos: check {cause}")
        models = {servo_id: await self.bus.read(servo_id, registers.MODEL_NUMBER) for servo_id in SERVO_IDS}
        others = {servo_id: model for servo_id, model in models.items() if model != registers.MODEL_STS3215}
        if others:
            found = ", ".join(f"{self.bus.named([servo_id])} is model {model}" for servo_id, model in others.items())
            raise RobotRefused(
                f"{self.bus.port}: {found}, expected {registers.MODEL_STS3215} (STS3215): replace it, or give the port of the right arm"
            )
        await self._check_firmware()

    async def check_calibration(self) -> None:
        """Check that the servos hold what the calibration file says.

        Raises:
            RobotRefused: they do not.
        """
        different = [joint for joint in JOINTS if await self._differs(joint)]
        if different:
            raise RobotRefused(
                f"{self.bus.port}: {', '.join(different)}: the servos hold another calibration than the file of "
                f"{self.plan.id or 'this arm'}: two ports may be swapped, so look first whether this is the {self.plan.label}; "
                f"if it is, run `{self.plan.calibrate_command}` and choose which of them holds"
            )

    async def configure(self) -> None:
        """Write what LeRobot writes on connect; afterwards a follower holds its position, a leader is free."""
        await self.release(num_retries=None)
        for servo_id in SERVO_IDS:
            for register, value in ((registers.RETURN_DELAY_TIME, 0), (registers.MAXIMUM_ACCELERATION, 254), (registers.ACCELERATION, 254)):
                await self.bus.write(servo_id, register, value)
        for servo_id in SERVO_IDS:
            await self.bus.write(servo_id, registers.OPERATING_MODE, 0)
            if self.plan.is_follower:
                for register, value in ((registers.P_COEFFICIENT, 16), (registers.I_COEFFICIENT, 0), (registers.D_COEFFICIENT, 32)):
                    await self.bus.write(servo_id, register, value)
        if self.plan.is_follower:
            for servo_id in SERVO_IDS:
                await self.bus.write(servo_id, registers.TORQUE_ENABLE, 1)
                await self.bus.write(servo_id, registers.LOCK, 1)

    async def release(self, *, num_retries: int | None = _RELEASE_RETRIES) -> None:
        """End the torque of every servo and open its EEPROM.

        One packet to all comes first, which needs no answer; then each servo has to confirm.

        Raises:
            RobotUnreachable: servos that did not confirm, named.
        """
        self.is_touched = True
        await self.bus.sync_write(dict.fromkeys(SERVO_IDS, 0), registers.TORQUE_ENABLE)
        silent = []
        for servo_id in SERVO_IDS:
            try:
                for register in (registers.TORQUE_ENABLE, registers.LOCK):
                    await self.bus.write(servo_id, register, 0, num_retries=num_retries, is_alarm_ignored=True)
            except RobotUnreachable:
                silent.append(servo_id)
                num_retries = _RELEASE_RETRIES_AFTER_SILENCE
                if not self.bus.is_open:
                    raise
        if silent:
            who = "all servos" if len(silent) == len(SERVO_IDS) else self.bus.named(silent)
            raise RobotUnreachable(
                f"{self.bus.port}: the {self.plan.label}: {who} did not confirm that the torque is off: "
                "switch the arm's power off before touching it"
            )

    async def raw_positions(self) -> dict[str, int]:
        """Return encoder steps after the homing offset, by joint."""
        found = await self.bus.sync_read(SERVO_IDS, registers.PRESENT_POSITION)
        return {joint: found[servo_id] for joint, servo_id in JOINTS.items()}

    async def positions(self) -> tuple[float, ...]:
        """Return where the joints are, in their units, in the order of ``plan.joint_names``.

        Raises:
            RobotUnreachable: a servo does not answer, or the port is gone.
        """
        return (await self.sample()).values

    async def sample(self, *, num_retries: int | None = None, margin_s: float | None = None) -> Sample:
        """Return where the joints are and when that was: the middle of question and answers.

        Args:
            num_retries: None: as the bus's settings say.
            margin_s: patience with the host and its adapter; None: as the bus's settings say.

        Raises:
            RobotUnreachable: a servo does not answer, or the port is gone.
        """
        found = await self.bus.sync_sample(SERVO_IDS, registers.PRESENT_POSITION, num_retries=num_retries, margin_s=margin_s)
        return Sample(tuple(map(normalised, found.value_by_id.values(), self._joints, self._units)), found.time_s)

    async def send(self, goals: Sequence[float], *, present: Sequence[float] | None = None) -> tuple[float, ...]:
        """Send the joints to their goals and return what was sent, which ``max_relative_target`` may have clipped.

        Args:
            goals: (J,) in the joints' units.
            present: (J,) where the joints are, if just read; None: they are read when the limit needs them.

        Raises:
            RobotUnreachable: the port is gone, or a servo does not answer.
            ValueError: a goal is not finite, or there are not six.
        """
        if self._max_steps:
            present = await self.positions() if present is None else present
            goals = clipped(goals, present, self._max_steps)
        raw = map(unnormalised, goals, self._joints, self._units)
        self.is_touched = True
        await self.bus.sync_write(dict(zip(SERVO_IDS, raw, strict=True)), registers.GOAL_POSITION)
        return tuple(goals)

    async def _differs(self, joint: str) -> bool:
        assert self._calibration is not None
        wanted = self._calibration[joint]
        held = (
            await self.bus.read(wanted.id, registers.MIN_POSITION_LIMIT),
            await self.bus.read(wanted.id, registers.MAX_POSITION_LIMIT),
            await self.bus.read(wanted.id, registers.HOMING_OFFSET),
        )
        return held != (wanted.range_min, wanted.range_max, wanted.homing_offset)

    async def _check_firmware(self) -> None:
        versions = {}
        for servo_id in SERVO_IDS:
            major = await self.bus.read(servo_id, registers.FIRMWARE_MAJOR)
            versions[servo_id] = f"{major}.{await self.bus.read(servo_id, registers.FIRMWARE_MINOR)}"
        if len(set(versions.values())) > 1:
            found = ", ".join(f"{self.bus.named([servo_id])} has {version}" for servo_id, version in versions.items())
            raise RobotRefused(f"{self.bus.port}: firmware differs: {found}; expected one version: update them with Feetech's FD software")


def clipped(goals: Sequence[float], present: Sequence[float], max_steps: Sequence[float]) -> tuple[float, ...]:
    """Return goals no farther from the present positions than the limits, all (J,) in the joints' units."""
    limits = zip(goals, present, max_steps, strict=True)
    return tuple(now + min(limit, max(-limit, goal - now)) for goal, now, limit in limits)


def calibration_path(plan: ArmPlan, environ: Mapping[str, str]) -> Path:
    """Return where LeRobot keeps the calibration of this arm; without an id it is ``None.json`` there."""
    folder = Path(plan.calibration_dir).expanduser() if plan.calibration_dir else calibration_folder(plan.type, environ)
    return folder / f"{plan.id}.json"


@asynccontextmanager
async def configured_arm(plan: ArmPlan, *, environ: Mapping[str, str], settings: BusSettings | None = None) -> AsyncIterator[Arm]:
    """Open, check and configure an arm for the block.

    Args:
        plan: what it is.
        environ: where LeRobot's files lie.
        settings: patience of the bus; None: the defaults.

    Raises:
        RobotRefused, RobotUnreachable: see ``Arm``; also without a calibration, before the port is opened.
    """
    calibration = read_calibration(calibration_path(plan, environ), command=plan.calibrate_command)
    async with opened_arm(plan, calibration=calibration, settings=settings) as arm:
        await arm.identify()
        await arm.check_calibration()
        await arm.configure()
        yield arm


@asynccontextmanager
async def opened_arm(plan: ArmPlan, *, calibration: Calibration | None = None, settings: BusSettings | None = None) -> AsyncIterator[Arm]:
    """Open an arm for the block, unchecked; on the way out its torque ends, whatever happened.

    Args:
        plan: what it is.
        calibration: None: positions are raw only.
        settings: patience of the bus; None: the defaults.

    Raises:
        RobotRefused, RobotUnreachable: the port cannot be opened, or servos did not confirm that their torque is off.
    """
    names = {servo_id: f"{plan.prefix}{joint}" for joint, servo_id in JOINTS.items()}
    bus = await ServoBus.open(plan.port, joints=names, settings=settings)
    arm = Arm(plan=plan, calibration=calibration, bus=bus)
    with held(arm):
        try:
            yield arm
        except BaseException as error:
            try:
                await _to_the_end(_left(arm))
            except RobotUnreachable as silence:
                error.add_note(str(silence))  # the first error is the one to act on
            raise
        else:
            await _to_the_end(_left(arm))


async def _left(arm: Arm) -> None:
    """Let this arm go and all others with it: nobody drives a part of a robot; then close its port."""
    try:
        await let_go()
    finally:
        await arm.bus.close()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end even if the caller is cancelled meanwhile; the cancellation is raised again afterwards."""
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        if task.exception() is not None:
            interruption.add_note(str(task.exception()))
        raise interruption
    task.result()
