"""Downloads a dataset with LeRobot 0.3.3 from the Hub that HF_ENDPOINT names, and reads every item.

Usage, with the python of the v21 environment: python download_v21.py REPO_ID

LeRobot finds the version by the repository's tags, downloads what it wants, and loads it from its own folder.
"""

import json
import os
import shutil
import sys

from load_v21 import CACHE, declare_operators, read_everything

os.environ["HF_HUB_OFFLINE"] = "0"  # the other script forbids the network
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def main():
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    dataset = LeRobotDataset(sys.argv[1], video_backend="pyav")
    found = {"revision": dataset.revision, "episodes": dataset.num_episodes, "frames": len(dataset), "batch": read_everything(dataset)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    library = declare_operators()
    try:
        main()
    finally:
        shutil.rmtree(CACHE, ignore_errors=True)
