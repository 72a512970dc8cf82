"""From a configuration to the rules of one episode: alignment plan, feature names, and what decides its bytes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.converter.alignment import AlignmentPlan
from shared.config import StrategyConfig
from shared.episode import ArmRole

STATE_KEY_BY_ROLE: dict[ArmRole, str] = {"slave": "observation.state.slave", "master": "observation.state.master"}
LEROBOT_STATE_KEY = "observation.state"
ACTION_KEY = "action"


def alignment_plan(config: StrategyConfig, cameras: Sequence[str], *, joints_fps: int) -> AlignmentPlan:
    """Return the rules by which the rows of an episode are made.

    Args:
        config: the strategy.
        cameras: names of the cameras the episode has, in configured order; the base camera is one of them.
        joints_fps: steps per second inside an action chunk (``joints_fps: auto`` resolved).
    """
    alignment = config.alignment
    own_rate = config.video.fps in {None, config.base_camera.target_fps}
    timeline = alignment.timeline if alignment.timeline != "auto" else "base" if own_rate else "uniform"
    image_tolerance_us = round(1e6 / config.fps) if alignment.image_tolerance_ms is None else _us(alignment.image_tolerance_ms)
    return AlignmentPlan(
        strategy=alignment.strategy,
        timeline=timeline,
        fps=config.fps,
        arms=tuple(arm.name for arm in config.robot.arms),
        action_arms=action_arms(config),
        cameras=tuple(cameras),
        base_camera=config.base_camera.name,
        tolerance_us=_us(alignment.tolerance_ms),
        image_tolerance_us=image_tolerance_us,
        window_us=_us(alignment.window_ms) if alignment.strategy == "window" else 0,
        chunk_size=alignment.chunk_size if alignment.strategy == "chunking" else 1,
        joints_fps=joints_fps,
        padding_mode=alignment.padding_mode,
        padding_value=alignment.padding_value,
        aggregation=alignment.aggregation,
        on_gap=alignment.on_gap,
        max_rows=alignment.max_rows,
    )


def state_arms(config: StrategyConfig) -> dict[str, tuple[str, ...]]:
    """Return, in column order, the arms whose joints each state column holds."""
    names_by_role = {role: tuple(arm.name for arm in config.robot.arms if arm.role == role) for role in STATE_KEY_BY_ROLE}
    by_role = {STATE_KEY_BY_ROLE[role]: names for role, names in names_by_role.items() if names}
    lerobot = {LEROBOT_STATE_KEY: names_by_role["slave"] or names_by_role["master"]}
    return {"roles": by_role, "lerobot": lerobot, "both": lerobot | by_role}[config.output.state_keys]


def action_arms(config: StrategyConfig) -> tuple[str, ...]:
    """Return the arms whose joints are the action: those that lead, or where none leads, those that follow."""
    leading = tuple(arm.name for arm in config.robot.arms if arm.role == "master")
    return leading or tuple(arm.name for arm in config.robot.arms)


def joint_names(config: StrategyConfig, arms: Sequence[str]) -> list[str]:
    """Return the names of the values in a column of these arms: the configured ones, else ``{arm}_joint_{i}``."""
    arm_by_name = {arm.name: arm for arm in config.robot.arms}
    every = range(config.robot.joints_per_arm)
    return [name for arm in arms for name in (arm_by_name[arm].joint_names or [f"{arm}_joint_{index}" for index in every])]


def recipe(config: StrategyConfig) -> dict[str, object]:
    """Return the part of a configuration that decides the bytes of a dataset; places and filters do not."""
    document: dict[str, object] = msgspec.to_builtins(config)
    kept = ("robot", "cameras", "alignment", "video")
    return {section: document[section] for section in kept} | {"state_keys": config.output.state_keys}


def _us(milliseconds: float) -> int:
    return round(milliseconds * 1000)
