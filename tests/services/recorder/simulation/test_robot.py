"""The simulated robot: arms that fit their calibration files, leaders that move within their range."""

import json
from pathlib import Path

import pytest

from services.recorder.robots import registers
from services.recorder.robots.calibration import read_calibration
from services.recorder.robots.models import JOINTS
from services.recorder.simulation.faults import PORT_NAMES, Faults
from services.recorder.simulation.robot import (
    moving_hand,
    simulated_calibration,
    simulated_robot,
    simulated_servos,
    write_calibrations,
)


@pytest.mark.parametrize("port_name", PORT_NAMES)
def test_hand_stays_within_the_calibrated_range_and_uses_most_of_it(port_name: str) -> None:
    for joint, found in simulated_calibration(port_name).items():
        seen = [moving_hand(port_name, joint)(tick / 10) - found.homing_offset for tick in range(3000)]

        assert found.range_min <= min(seen) < max(seen) <= found.range_max
        assert joint == "wrist_roll" or max(seen) - min(seen) > 0.7 * (found.range_max - found.range_min)


def test_files_hold_what_the_servos_hold(tmp_path: Path) -> None:
    paths = write_calibrations(tmp_path, robot_id="a", family="so101")

    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "robots/so101_follower/a_left.json",
        "robots/so101_follower/a_right.json",
        "teleoperators/so101_leader/a_left.json",
        "teleoperators/so101_leader/a_right.json",
    ]
    for name, path in zip(PORT_NAMES, paths, strict=True):
        calibration = read_calibration(path, command="")
        for servo, joint in zip(simulated_servos(name), JOINTS, strict=True):
            held = [servo.get(r) for r in (registers.HOMING_OFFSET, registers.MIN_POSITION_LIMIT, registers.MAX_POSITION_LIMIT)]
            assert held == [calibration[joint].homing_offset, calibration[joint].range_min, calibration[joint].range_max]
        assert json.loads(path.read_text())["gripper"]["id"] == 6


def test_servos_as_the_factory_sends_them_have_no_offset() -> None:
    servos = simulated_servos("left_leader", is_calibrated=False)

    assert {servo.get(registers.HOMING_OFFSET) for servo in servos} == {0}
    assert {servo.get(registers.MAX_POSITION_LIMIT) for servo in servos} == {4095}


async def test_robot_has_four_ports_and_the_faults_asked_for() -> None:
    with simulated_robot({"right_leader": Faults(slow=1)}) as robot:
        assert set(robot.ports) == set(PORT_NAMES)
        assert len(set(robot.ports.values())) == 4
        assert [name for name, terminal in robot.terminals.items() if terminal.line.faults.slow] == ["right_leader"]
        paths = [Path(path) for path in robot.ports.values()]
        assert all(path.exists() for path in paths)

    assert not any(path.exists() for path in paths)
