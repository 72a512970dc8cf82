"""Types of robots, and the options that choose arms."""

import pytest

from services.recorder.robots.errors import RobotRefused
from services.recorder.robots.models import JOINTS, TYPES, RobotOptions, arm_plans


def test_a_bimanual_type_is_two_single_arms_left_before_right() -> None:
    options = RobotOptions(type="bi_so100_follower", id="a", left_arm_port="/dev/l", right_arm_port="/dev/r")
    left, right = arm_plans(options, kind="robot")

    assert [(plan.type, plan.port, plan.id) for plan in (left, right)] == [
        ("so100_follower", "/dev/l", "a_left"),
        ("so100_follower", "/dev/r", "a_right"),
    ]
    assert left.joint_names == tuple(f"left_{joint}" for joint in JOINTS)
    assert left.is_follower
    assert right.calibrate_command == "episodeflow calibrate --robot.type=so100_follower --robot.port=/dev/r --robot.id=a_right"


def test_a_single_arm_has_no_prefix() -> None:
    (plan,) = arm_plans(RobotOptions(type="so101_leader", port="/dev/l"), kind="teleop")

    assert plan.joint_names == tuple(JOINTS)
    assert plan.id is None
    assert not plan.is_follower


def test_what_one_side_says_comes_before_what_both_say() -> None:
    options = RobotOptions(
        type="bi_so100_follower",
        id="a",
        left_arm_port="/l",
        right_arm_port="/r",
        use_degrees=True,
        right_arm_use_degrees=False,
        left_arm_max_relative_target=5.0,
        left_arm_disable_torque_on_disconnect=False,
    )
    left, right = arm_plans(options, kind="robot")

    assert (left.is_in_degrees, left.max_relative_target, left.is_torque_kept) == (True, 5.0, True)
    assert (right.is_in_degrees, right.max_relative_target, right.is_torque_kept) == (False, None, False)


def test_types_are_those_of_lerobot() -> None:
    assert set(TYPES["robot"]) == {"so100_follower", "so101_follower", "bi_so100_follower", "bi_so101_follower"}
    assert set(TYPES["teleop"]) == {"so100_leader", "so101_leader", "bi_so100_leader", "bi_so101_leader"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (RobotOptions(type="so100_folower", port="/p"), "unknown type, .* did you mean so100_follower?"),
        (RobotOptions(type="so100_leader", port="/p"), "--robot.type=so100_leader: unknown type"),
        (RobotOptions(type="so100_follower"), "--robot.port: missing, so100_follower needs it"),
        (RobotOptions(type="bi_so100_follower", left_arm_port="/l"), "--robot.right_arm_port: missing"),
        (RobotOptions(type="bi_so100_follower", left_arm_port="/l", right_arm_port="/r"), "--robot.id: missing"),
        (RobotOptions(type="bi_so100_follower", id="a", left_arm_port="/l", right_arm_port="/l"), "both arms name it"),
        (RobotOptions(type="bi_so100_follower", left_arm_port="/l", right_arm_port="/r", port="/p"), "--robot.port: not an option of"),
        (RobotOptions(type="so100_follower", port="/p", left_arm_use_degrees=True), "--robot.left_arm_use_degrees: not an option of"),
        (RobotOptions(type="so100_follower", port="/p", max_relative_target=0.0), "max_relative_target=0.0: expected a number above 0"),
        (RobotOptions(type="so100_follower", port="/p", max_relative_target={"gripper": 1.0}), "names gripper, expected a number"),
    ],
)
def test_options_that_mean_no_robot_are_refused(options: RobotOptions, problem: str) -> None:
    with pytest.raises(RobotRefused, match=problem):
        arm_plans(options, kind="robot")
