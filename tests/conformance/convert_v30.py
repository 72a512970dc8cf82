"""Converts a copy of a v2.1 dataset to v3.0 with LeRobot 0.4.4, loads it and prints what it found.

Usage: python convert_v30.py DATASET     (with the python of the v30 environment; DATASET is not changed)
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

CACHE = tempfile.mkdtemp(prefix="lerobot-cache-")
os.environ.update(HF_HUB_OFFLINE="1", HF_HOME=CACHE, HF_DATASETS_CACHE=f"{CACHE}/datasets", HF_LEROBOT_HOME=f"{CACHE}/lerobot")


def declare_operators():
    """Declare the two operators torchvision registers on import; its compiled part does not load beside a newer torch."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("roi_align(Tensor input, Tensor rois, float spatial_scale, int h, int w, int sampling_ratio, bool aligned) -> Tensor")
    return library


def main():
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.datasets.v30.convert_dataset_v21_to_v30 import convert_dataset

    place = Path(CACHE) / "converted"
    shutil.copytree(Path(sys.argv[1]), place / "local/dataset")
    convert_dataset(repo_id="local/dataset", root=str(place), push_to_hub=False, force_conversion=True)
    dataset = LeRobotDataset("local/dataset", root=place / "local/dataset", video_backend="pyav")
    for position in range(len(dataset)):
        item = dataset[position]
        assert item["index"].item() == position
        for key, feature in dataset.features.items():
            if feature["dtype"] == "video":
                height, width, channels = feature["shape"]
                assert tuple(item[key].shape) == (channels, height, width), (key, item[key].shape)
    shapes = {key: list(value.shape) for key, value in item.items() if hasattr(value, "shape")}
    sys.stdout.write(
        json.dumps({"version": str(dataset.meta._version), "episodes": dataset.num_episodes, "frames": len(dataset), "item": shapes}) + "\n"
    )


if __name__ == "__main__":
    library = declare_operators()
    try:
        main()
    finally:
        shutil.rmtree(CACHE, ignore_errors=True)
