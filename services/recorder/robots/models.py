"""The types of robots and teleoperators, their arms and joints, and the options that choose them. Pure.

A bimanual type is two independent single arms, all left before all right: joints get the prefix ``left_`` or ``right_``, and the
arms' ids are ``{id}_left`` and ``{id}_right``.
"""

from __future__ import annotations

import difflib
from typing import Any, Final, Literal

import msgspec

from services.recorder.robots.errors import RobotRefused

Kind = Literal["robot", "teleop"]
"""The word of the options: ``--robot.port``, ``--teleop.port``."""

JOINTS: Final = {"shoulder_pan": 1, "shoulder_lift": 2, "elbow_flex": 3, "wrist_flex": 4, "wrist_roll": 5, "gripper": 6}
"""Servo id by joint; every arm of these families has them."""

GRIPPER: Final = "gripper"
WHOLE_TURN_JOINT: Final = "wrist_roll"
"""Turns without end: it is not swept in a calibration."""

_FAMILIES: Final = ("so100", "so101")
TYPES: Final = {
    kind: tuple(f"{prefix}{family}_{role}" for prefix in ("bi_", "") for family in _FAMILIES)
    for kind, role in (("robot", "follower"), ("teleop", "leader"))
}
"""The types that an option may name."""


class RobotOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``--robot.*`` or ``--teleop.*`` say, named as LeRobot names them, without cameras.

    A single arm has ``port``, a bimanual type ``left_arm_port`` and ``right_arm_port``; what else begins with a side holds for
    that arm, before what holds for both. ``max_relative_target`` is in the joint's unit, one number or one by joint.
    """

    type: str
    id: str | None = None
    port: str | None = None
    left_arm_port: str | None = None
    right_arm_port: str | None = None
    calibration_dir: str | None = None
    disable_torque_on_disconnect: bool = True
    max_relative_target: float | dict[str, float] | None = None
    use_degrees: bool = False
    left_arm_disable_torque_on_disconnect: bool | None = None
    right_arm_disable_torque_on_disconnect: bool | None = None
    left_arm_max_relative_target: float | dict[str, float] | None = None
    right_arm_max_relative_target: float | dict[str, float] | None = None
    left_arm_use_degrees: bool | None = None
    right_arm_use_degrees: bool | None = None


class ArmPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One arm that is to be opened: its prefix, single-arm type, port, id and how it is driven."""

    kind: Kind
    prefix: str
    type: str
    port: str
    id: str | None
    calibration_dir: str | None = None
    is_torque_kept: bool = False
    max_relative_target: float | dict[str, float] | None = None
    is_in_degrees: bool = False

    @property
    def is_follower(self) -> bool:
        """Whether it is driven; a leader is moved by hand and has no torque."""
        return self.type.endswith("_follower")

    @property
    def label(self) -> str:
        """What a person calls it: ``left follower``."""
        return f"{self.prefix.removesuffix('_')} {'follower' if self.is_follower else 'leader'}".strip()

    @property
    def joint_names(self) -> tuple[str, ...]:
        """The joints' names in a dataset, with prefix and without ``.pos``."""
        return tuple(f"{self.prefix}{joint}" for joint in JOINTS)

    @property
    def calibrate_command(self) -> str:
        """What a person runs to calibrate this arm."""
        named = f" --{self.kind}.id={self.id}" if self.id else ""
        placed = f" --{self.kind}.calibration_dir={self.calibration_dir}" if self.calibration_dir else ""
        return f"episodeflow calibrate --{self.kind}.type={self.type} --{self.kind}.port={self.port}{named}{placed}"


def arm_plans(options: RobotOptions, *, kind: Kind) -> tuple[ArmPlan, ...]:
    """Return the arms that the options mean, left before right.

    Args:
        options: of the robot or the teleoperator.
        kind: which of them.

    Raises:
        RobotRefused: an unknown type, or a port that is missing or too many.
    """
    if options.type not in TYPES[kind]:
        near = difflib.get_close_matches(options.type, TYPES[kind], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RobotRefused(f"--{kind}.type={options.type}: unknown type, expected one of {', '.join(TYPES[kind])}{hint}")
    wanted = {"left_": "left_arm_port", "right_": "right_arm_port"} if options.type.startswith("bi_") else {"": "port"}
    ports = {prefix: _port(options, name, kind) for prefix, name in wanted.items()}
    foreign = ["port"] if "left_" in wanted else [name for name in options.__struct_fields__ if "_arm_" in name]
    for name in foreign:
        if getattr(options, name) is not None:
            raise RobotRefused(f"--{kind}.{name}: not an option of {options.type}, expected {_options_text(wanted, kind)}")
    if len(ports) > 1 and not options.id:  # LeRobot keeps both arms in None.json then, the right one over the left one
        raise RobotRefused(f"--{kind}.id: missing, {options.type} needs it: it names the calibration files of the two arms apart")
    if len(set(ports.values())) < len(ports):
        raise RobotRefused(f"--{kind}.left_arm_port={options.left_arm_port}: both arms name it, expected a port for each")
    return tuple(_arm_plan(options, kind=kind, prefix=prefix, port=port) for prefix, port in ports.items())


def _arm_plan(options: RobotOptions, *, kind: Kind, prefix: str, port: str) -> ArmPlan:
    limit = _option(options, prefix, "max_relative_target")
    if isinstance(limit, dict) and set(limit) != set(JOINTS):
        raise RobotRefused(
            f"--{kind}.max_relative_target: names {', '.join(limit)}, expected a number, or one for each of {', '.join(JOINTS)}"
        )
    for value in limit.values() if isinstance(limit, dict) else [] if limit is None else [limit]:
        if not value > 0:
            raise RobotRefused(f"--{kind}.max_relative_target={value}: expected a number above 0")
    return ArmPlan(
        kind=kind,
        prefix=prefix,
        type=options.type.removeprefix("bi_"),
        port=port,
        id=f"{options.id}_{prefix.removesuffix('_')}" if prefix and options.id else options.id,
        calibration_dir=options.calibration_dir,
        is_torque_kept=not _option(options, prefix, "disable_torque_on_disconnect"),
        max_relative_target=limit,
        is_in_degrees=_option(options, prefix, "use_degrees"),
    )


def _option(options: RobotOptions, prefix: str, name: str) -> Any:
    """Return an option of one arm: its own, or that of both."""
    own = getattr(options, f"{prefix}arm_{name}") if prefix else None
    return getattr(options, name) if own is None else own


def _port(options: RobotOptions, name: str, kind: Kind) -> str:
    port: str | None = getattr(options, name)
    if not port:
        raise RobotRefused(f"--{kind}.{name}: missing, {options.type} needs it: name the serial port, for example /dev/ttyACM0")
    return port


def _options_text(wanted: dict[str, str], kind: Kind) -> str:
    return " and ".join(f"--{kind}.{name}" for name in wanted.values())
