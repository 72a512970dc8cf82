"""Prints LeRobot 0.3.3's statistics of a folder of PNG images as JSON; run it with the python of the v21 environment.

Usage: python image_stats_v21.py FOLDER
"""

import json
import sys
from pathlib import Path

from load_v21 import declare_operators


def main():
    from lerobot.datasets.compute_stats import compute_episode_stats

    paths = [str(path) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
    stats = compute_episode_stats({"camera": paths}, {"camera": {"dtype": "video"}})["camera"]
    sys.stdout.write(json.dumps({name: value.tolist() for name, value in stats.items()}) + "\n")


if __name__ == "__main__":
    library = declare_operators()
    main()
