"""From configuration to the integers of alignment, the order of columns, and a digest of what decides the bytes."""

from __future__ import annotations

from typing import Any

import pytest

from services.converter.plan import action_arms, alignment_plan, joint_names, recipe, state_arms
from tests.services.converter.episodes import strategy

LEADERS = ("left_master", "right_master")
FOLLOWERS = ("left_slave", "right_slave")
ONE_LEADER = {"type": "x", "arms": [{"name": "lead", "role": "master"}], "joints_per_arm": 3}


@pytest.mark.parametrize(
    ("overrides", "timeline", "fps"),
    [
        ({}, "base", 25),
        ({"video__fps": 25}, "base", 25),
        ({"video__fps": 30}, "uniform", 30),
        ({"video__fps": 30, "alignment__timeline": "base"}, "base", 30),
        ({"alignment__timeline": "uniform"}, "uniform", 25),
    ],
)
def test_auto_follows_the_base_camera_where_the_rates_agree(overrides: dict[str, Any], timeline: str, fps: int) -> None:
    found = alignment_plan(strategy(**overrides), ["cam_base"], joints_fps=250)

    assert (found.timeline, found.fps) == (timeline, fps)


def test_milliseconds_become_microseconds_and_an_image_may_be_one_row_away() -> None:
    config = strategy(alignment__tolerance_ms=1.5, alignment__window_ms=7, alignment__strategy="window")
    found = alignment_plan(config, ["cam_base"], joints_fps=250)

    assert (found.tolerance_us, found.window_us, found.image_tolerance_us) == (1500, 7000, 40_000)
    assert alignment_plan(strategy(alignment__image_tolerance_ms=2), ["cam_base"], joints_fps=250).image_tolerance_us == 2000


def test_chunks_and_windows_belong_to_their_strategy() -> None:
    near = alignment_plan(strategy(), ["cam_base"], joints_fps=250)
    chunked = alignment_plan(strategy(alignment__strategy="chunking"), ["cam_base"], joints_fps=100)

    assert (near.chunk_size, near.window_us, near.lookahead_us) == (1, 0, 0)
    assert (chunked.chunk_size, chunked.window_us, chunked.lookahead_us) == (10, 0, 90_000)


@pytest.mark.parametrize(
    ("state_keys", "expected"),
    [
        ("roles", {"observation.state.slave": FOLLOWERS, "observation.state.master": LEADERS}),
        ("lerobot", {"observation.state": FOLLOWERS}),
        ("both", {"observation.state": FOLLOWERS, "observation.state.slave": FOLLOWERS, "observation.state.master": LEADERS}),
    ],
)
def test_states_are_by_role_in_configured_order(state_keys: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert list(state_arms(strategy(output__state_keys=state_keys)).items()) == list(expected.items())


def test_where_only_leaders_are_recorded_they_are_state_and_action() -> None:
    config = strategy(robot=ONE_LEADER, output__state_keys="both")

    assert state_arms(config) == {"observation.state": ("lead",), "observation.state.master": ("lead",)}
    assert action_arms(config) == ("lead",)


def test_the_leaders_are_the_action() -> None:
    assert action_arms(strategy()) == LEADERS


def test_joints_are_numbered_unless_an_arm_names_them() -> None:
    arms = [{"name": "a", "role": "master"}, {"name": "b", "role": "slave", "joint_names": ["lift.pos", "gripper.pos"]}]
    config = strategy(robot={"type": "x", "arms": arms, "joints_per_arm": 2})

    assert joint_names(config, ["a", "b"]) == ["a_joint_0", "a_joint_1", "lift.pos", "gripper.pos"]


def test_the_recipe_leaves_places_and_filters_out() -> None:
    assert recipe(strategy(output__base_path="x", input__data_path="y", filtering__min_frames=3)) == recipe(strategy())
    assert recipe(strategy(output__state_keys="both")) != recipe(strategy())


@pytest.mark.parametrize("key", ["video__crf", "alignment__chunk_size", "robot__joints_per_arm"])
def test_the_recipe_holds_what_decides_the_bytes(key: str) -> None:
    assert recipe(strategy(**{key: 11})) != recipe(strategy())
