"""Records a small dataset with LeRobot 0.3.3's own writer, as `lerobot-record` lays it out for a bimanual SO-100.

Usage: python create_v21.py DATASET
"""

import json
import os
import sys
import tempfile

CACHE = tempfile.mkdtemp(prefix="lerobot-cache-")
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=CACHE, HF_DATASETS_CACHE=f"{CACHE}/datasets", HF_LEROBOT_HOME=f"{CACHE}/lerobot")

from load_v21 import declare_operators  # noqa: E402 - the cache is chosen first

OPERATORS = declare_operators()

import numpy as np  # noqa: E402
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: E402

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
CAMERAS = ("left", "front")
NUM_FRAMES = 12


def main() -> None:
    names = [f"{side}_{joint}.pos" for side in ("left", "right") for joint in JOINTS]
    features = {key: {"dtype": "float32", "shape": (12,), "names": names} for key in ("action", "observation.state")}
    image = {"dtype": "video", "shape": (240, 320, 3), "names": ["height", "width", "channels"]}
    features |= {f"observation.images.{camera}": image for camera in CAMERAS}
    dataset = LeRobotDataset.create("lab/blocks", 30, root=sys.argv[1], robot_type="bi_so100_follower", features=features)
    generator = np.random.default_rng(0)
    for _ in range(NUM_FRAMES):
        frame = {key: generator.normal(size=12).astype(np.float32) for key in ("action", "observation.state")}
        frame |= {f"observation.images.{camera}": generator.integers(0, 255, (240, 320, 3), dtype=np.uint8) for camera in CAMERAS}
        dataset.add_frame(frame, task="Stack blocks.")
    dataset.save_episode()
    sys.stdout.write(json.dumps({"episodes": dataset.meta.total_episodes, "frames": dataset.meta.total_frames}) + "\n")


main()
