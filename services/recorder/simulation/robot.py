"""The simulated bimanual robot: two leaders that a hand moves, two followers, a port for each.

Each arm comes calibrated: its servos hold what ``simulated_calibration`` says, and ``write_calibrations`` puts the same
into LeRobot's files, so that a newcomer records without calibrating.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.recorder.robots import registers
from services.recorder.robots.calibration import calibration_folder, write_calibration
from services.recorder.robots.models import JOINTS
from services.recorder.robots.normalisation import Calibration, JointCalibration
from services.recorder.simulation.faults import PORT_NAMES, Faults
from services.recorder.simulation.line import ServoLine
from services.recorder.simulation.servo import Hand, Servo
from services.recorder.simulation.terminals import ServoTerminal

_CENTRE = 2047
_REACH_BY_JOINT = {"gripper": 500.0, "wrist_roll": 700.0}
_REACH = 850.0


def simulated_calibration(port_name: str) -> Calibration:
    """Return what a careful person would have measured on this arm."""
    return {joint: _joint_calibration(port_name, joint) for joint in JOINTS}


def moving_hand(port_name: str, joint: str) -> Hand:
    """Return a smooth movement of one joint that stays within its calibrated range and never repeats soon."""
    reach = _REACH_BY_JOINT.get(joint, _REACH)
    phase = JOINTS[joint] + 10 * PORT_NAMES.index(port_name)
    centre = _CENTRE + _homing_offset(port_name, joint)
    slow_hz, fast_hz = 0.11 + 0.013 * JOINTS[joint], 0.37 + 0.017 * JOINTS[joint]

    def shaft(now_s: float) -> float:
        slow = math.sin(math.tau * slow_hz * now_s + phase)
        fast = math.sin(math.tau * fast_hz * now_s + 2 * phase)
        return centre + reach * (0.75 * slow + 0.25 * fast)

    return shaft


def simulated_servos(port_name: str, *, is_calibrated: bool = True, is_hand_moved: bool | None = None) -> list[Servo]:
    """Return the servos of one arm.

    Args:
        port_name: one of ``PORT_NAMES``.
        is_calibrated: the servos hold offsets and limits; else what the factory wrote.
        is_hand_moved: a hand moves the joints while they have no torque; None: only a leader's.
    """
    if is_hand_moved is None:
        is_hand_moved = port_name.endswith("leader")
    servos = []
    for joint, servo_id in JOINTS.items():
        hand = moving_hand(port_name, joint)
        servo = Servo(servo_id, shaft=hand(0.0), hand=hand if is_hand_moved else None)
        if is_calibrated:
            wanted = _joint_calibration(port_name, joint)
            servo.set(registers.HOMING_OFFSET, wanted.homing_offset)
            servo.set(registers.MIN_POSITION_LIMIT, wanted.range_min)
            servo.set(registers.MAX_POSITION_LIMIT, wanted.range_max)
        servos.append(servo)
    return servos


class SimulatedRobot:
    """Four open ports; ``terminals`` by name of port. Make one with ``simulated_robot``."""

    def __init__(self, terminals: Mapping[str, ServoTerminal]) -> None:
        self.terminals = terminals

    @property
    def ports(self) -> dict[str, str]:
        """Device path by name of port."""
        return {name: terminal.path for name, terminal in self.terminals.items()}

    def servo(self, port_name: str, joint: str) -> Servo:
        """Return one servo, moved to this moment."""
        terminal = self.terminals[port_name]
        terminal.line.advance(terminal.now_s)
        return terminal.line.servos[JOINTS[joint]]


@contextmanager
def simulated_robot(
    faults: Mapping[str, Faults] | None = None, *, is_calibrated: bool = True, is_hand_moved: bool | None = None
) -> Iterator[SimulatedRobot]:
    """Give a simulated robot for the block; its ports are served by the running loop.

    Args:
        faults: by name of port.
        is_calibrated: see ``simulated_servos``.
        is_hand_moved: see ``simulated_servos``.
    """
    asyncio.get_running_loop()  # a clear error before anything is opened
    terminals: dict[str, ServoTerminal] = {}
    try:
        for name in PORT_NAMES:
            servos = simulated_servos(name, is_calibrated=is_calibrated, is_hand_moved=is_hand_moved)
            terminals[name] = ServoTerminal(ServoLine(servos, faults=(faults or {}).get(name)))
        yield SimulatedRobot(terminals)
    finally:
        for terminal in terminals.values():
            terminal.close()


def write_calibrations(folder: Path, *, robot_id: str, family: str = "so100") -> list[Path]:
    """Write LeRobot's calibration files of the simulated arms, and return their paths.

    Args:
        folder: what HF_LEROBOT_CALIBRATION is to name.
        robot_id: ``--robot.id`` and ``--teleop.id``; the files are named ``{robot_id}_left`` and ``{robot_id}_right``.
        family: ``so100`` or ``so101``.
    """
    environ = {"HF_LEROBOT_CALIBRATION": str(folder)}
    paths = []
    for name in PORT_NAMES:
        side, role = name.split("_")
        path = calibration_folder(f"{family}_{role}", environ) / f"{robot_id}_{side}.json"
        write_calibration(path, simulated_calibration(name))
        paths.append(path)
    return paths


def _joint_calibration(port_name: str, joint: str) -> JointCalibration:
    reach = round(_REACH_BY_JOINT.get(joint, _REACH) * 1.1)
    lowest, highest = (0, registers.MAX_POSITION) if joint == "wrist_roll" else (_CENTRE - reach, _CENTRE + reach)
    return JointCalibration(
        id=JOINTS[joint], drive_mode=0, homing_offset=_homing_offset(port_name, joint), range_min=lowest, range_max=highest
    )


def _homing_offset(port_name: str, joint: str) -> int:
    return -600 + 131 * JOINTS[joint] + 57 * PORT_NAMES.index(port_name)
