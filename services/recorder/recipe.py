"""What a recording tells the converter: arms, cameras and rates as overrides of its strategy file. Pure.

An event carries them, so converters need to know no robot beforehand. Features are named and laid out as LeRobot's own
recorder does (``action`` and ``observation.state`` with ``left_shoulder_pan.pos``, …), which is why a dataset can be begun
with one of the two and resumed with the other.

The timeline is uniform, and gaps are held: a camera that runs slower or faster than it says is not stretched, none is rejected,
and where a servo or a camera did not answer, its last sample stands for it. No row is left out, so time stays what it was.
An episode is recorded a few frames longer than it takes, because rows lie where all streams overlap: what takes 10 s at 30 fps
has 300 rows.
"""

from __future__ import annotations

from typing import Any

from services.recorder.options import CODECS, RecordOptions
from services.recorder.robots.models import JOINTS, ArmPlan, arm_plans
from shared.config import StrategyConfig, VideoConfig, decode_strategy
from shared.lerobot import layout
from shared.lerobot.info import Feature, Info, empty_info, video_feature

_PIX_FMT = "yuv420p"
_CHUNK_SIZE = 10
_OVERRUN_FRAMES = 3
USUAL_CODEC = "h264"
_QUALITY_BY_CODEC = {"h264": (23, "veryfast"), "hevc": (26, "veryfast"), "av1": (30, "10")}
"""Quality and preset: an episode shall be encoded before the next one ends."""


def arm_names(plan: ArmPlan) -> tuple[str, str]:
    """Return what the raw episode calls a follower and the goals it got: ``left_slave``, ``left_master``."""
    return f"{plan.prefix}slave", f"{plan.prefix}master"


def joint_names(plan: ArmPlan) -> list[str]:
    """Return what LeRobot calls the values of an arm: ``left_shoulder_pan.pos``, …"""
    return [f"{name}.pos" for name in plan.joint_names]


def chosen_codec(options: RecordOptions, *, existing: str | None, usual: str) -> str:
    """Return the codec of this recording's videos.

    Args:
        options: the recording.
        existing: codec of the dataset that is there already; None: there is none.
        usual: what the converter's strategy file says.
    """
    return existing or (CODECS[options.dataset.vcodec] if options.dataset.vcodec else usual)


def strategy_overrides(options: RecordOptions, *, codec: str, usual: VideoConfig) -> dict[str, Any]:
    """Return what an event of this recording lays over the converter's strategy file.

    It is converted some time, maybe with the file of a later recording: nothing that this one means is left to the file.

    Args:
        options: the recording.
        codec: of the videos.
        usual: what the strategy file says now; its quality and preset mean nothing to another codec.
    """
    found = {"codec": codec, "crf": usual.crf, "preset": usual.preset, "gop": usual.gop} if codec == usual.codec else _video(codec)
    return {**_layout(options), "video": {"fps": options.dataset.fps, **found}}


def strategy_document(options: RecordOptions) -> dict[str, Any]:
    """Return a whole strategy file for this recording, where no lab has written one."""
    document = _layout(options)
    codec = chosen_codec(options, existing=None, usual=USUAL_CODEC)
    return {
        **document,
        "alignment": {**document["alignment"], "strategy": options.dataset.strategy},
        "video": {"fps": options.dataset.fps, **_video(codec)},
    }


def _layout(options: RecordOptions) -> dict[str, Any]:
    """Return arms, cameras and rates."""
    plans = arm_plans(options.robot, kind="robot")
    roles = [(name, role) for index, role in enumerate(("slave", "master")) for name in (arm_names(plan)[index] for plan in plans)]
    names = {name: joint_names(plan) for plan in plans for name in arm_names(plan)}
    cameras = [
        {"name": name, "role": "sync" if index else "base", "target_fps": camera.fps}
        for index, (name, camera) in enumerate(options.cameras.items())
    ]
    return {
        "robot": {
            "type": options.robot.type,
            "arms": [{"name": name, "role": role, "joint_names": names[name]} for name, role in roles],
            "joints_per_arm": len(JOINTS),
        },
        "cameras": cameras,
        "alignment": {
            "timeline": "uniform",
            "on_gap": "hold",
            "chunk_size": _CHUNK_SIZE,
            "joints_fps": round(options.control_rate_hz),
            "max_rows": max(1, round(options.dataset.episode_time_s * options.dataset.fps)),
        },
        "output": {"state_keys": "lerobot"},
    }


def _video(codec: str) -> dict[str, Any]:
    crf, preset = _QUALITY_BY_CODEC[codec]
    return {"codec": codec, "crf": crf, "preset": preset, "gop": None}


def expected_strategy(options: RecordOptions) -> StrategyConfig:
    """Return the strategy of this recording as the converter will read it.

    Raises:
        BadConfig: names of arms and cameras collide, or a rate is out of bounds.
    """
    return decode_strategy(strategy_document(options), place="command line")


def expected_info(options: RecordOptions, *, codec: str) -> Info:
    """Return the info.json that a dataset of this recording would have, to compare with one that is there.

    Args:
        options: the recording.
        codec: of the videos.
    """
    fps = options.dataset.fps
    plans = arm_plans(options.robot, kind="robot")
    names = [name for plan in plans for name in joint_names(plan)]
    chunk = (_CHUNK_SIZE,) if options.dataset.strategy == "chunking" else ()
    joints = {
        "action": Feature(dtype="float32", shape=(*chunk, len(names)), names=names),
        "observation.state": Feature(dtype="float32", shape=(len(names),), names=names),
    }
    videos = {
        layout.camera_key(name): video_feature(
            height=camera.height,
            width=camera.width,
            fps=fps,
            codec=codec,
            pix_fmt=_PIX_FMT,
        )
        for name, camera in options.cameras.items()
    }
    return empty_info(robot_type=options.robot.type, fps=fps, features={**joints, **videos})


def overrun_s(options: RecordOptions) -> float:
    """Return how much longer than ``episode_time_s`` is recorded: at both ends each camera may be a frame behind the others."""
    return _OVERRUN_FRAMES / min(options.dataset.fps, *(camera.fps for camera in options.cameras.values()))


def video_codec(info: Info) -> str | None:
    """Return the codec of a dataset's videos, None where it does not say one that we write."""
    found = {info.features[key].video_info("video.codec") for key in info.video_keys}
    return CODECS.get(found.pop()) if len(found) == 1 else None
