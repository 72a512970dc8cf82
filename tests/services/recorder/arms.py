"""What the tests of arms share: options of the simulated robot, its calibration files, an impatient bus."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.recorder.robots.models import ArmPlan, RobotOptions, arm_plans
from services.recorder.robots.servo_bus import BusSettings
from services.recorder.simulation.faults import Faults
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot, write_calibrations

ROBOT_ID = "sim"
PATIENT = BusSettings(margin_s=0.5)
"""A busy machine answers late; only a test about silence is impatient."""
IMPATIENT = BusSettings(margin_s=0.03, num_retries=1)


def places(folder: Path) -> dict[str, str]:
    """Write the simulated robot's calibration files and return the environment that names them."""
    write_calibrations(folder, robot_id=ROBOT_ID)
    return {"HF_LEROBOT_CALIBRATION": str(folder)}


def bimanual(robot: SimulatedRobot, role: str, **more: object) -> RobotOptions:
    ports = robot.ports
    return RobotOptions(
        type=f"bi_so100_{role}",
        id=ROBOT_ID,
        left_arm_port=ports[f"left_{role}"],
        right_arm_port=ports[f"right_{role}"],
        **more,  # type: ignore[arg-type]
    )


def plan(robot: SimulatedRobot, port_name: str = "left_follower", **more: object) -> ArmPlan:
    """Return the plan of one of the simulated arms."""
    side, role = port_name.split("_")
    plans = arm_plans(bimanual(robot, role, **more), kind="robot" if role == "follower" else "teleop")
    return plans[0] if side == "left" else plans[1]


@contextmanager
def faulty(port_name: str, **faults: object) -> Iterator[SimulatedRobot]:
    """Give a simulated robot with faults at one port."""
    with simulated_robot({port_name: Faults(**faults)}) as robot:  # type: ignore[arg-type]
        yield robot
