"""Options of a recording as tests write them."""

from __future__ import annotations

from services.recorder.options import RecordOptions, record_options

CAMERAS = """{
    left: {type: opencv, index_or_path: sim://left, width: 640, height: 480, fps: 30},
    front: {type: opencv, index_or_path: 'sim://front', width: 320, height: 240, "fps": 25},
}"""


def arguments(**changes: str | None) -> list[str]:
    """Return a command line; ``dataset__fps="60"`` changes a flag, None leaves it away."""
    flags = {
        "robot.type": "bi_so100_follower",
        "robot.left_arm_port": "/dev/ttyL",
        "robot.right_arm_port": "/dev/ttyR",
        "robot.id": "white",
        "robot.cameras": CAMERAS,
        "teleop.type": "bi_so100_leader",
        "teleop.left_arm_port": "/dev/ttyl",
        "teleop.right_arm_port": "/dev/ttyr",
        "teleop.id": "black",
        "dataset.repo_id": "lab/blocks",
        "dataset.single_task": "Stack blocks.",
    }
    flags |= {name.replace("__", "."): value for name, value in changes.items()}  # type: ignore[dict-item]
    return [f"--{name}={value}" for name, value in flags.items() if value is not None]


def options(**changes: str | None) -> RecordOptions:
    """Return the options of a command line."""
    return record_options(arguments(**changes))
