"""Loads a dataset with LeRobot 0.3.3 and prints what it found; run it with the python of the v21 environment.

Usage: python load_v21.py DATASET [--resume] [--stats]

Loads with the pyav backend and LeRobot's own timestamp check, reads every item, one batch of a DataLoader, and items with
delta_timestamps. With --resume LeRobot itself appends an episode (give it a copy). With --stats LeRobot's
compute_episode_stats runs on the rows of every episode and the result is compared with episodes_stats.jsonl.
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


def load(root, **options):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("local/dataset", root=root, video_backend="pyav", **options)


def read_everything(dataset):
    import torch

    fps = dataset.fps
    for position in range(len(dataset)):
        item = dataset[position]
        assert item["index"].item() == position
        assert abs(item["timestamp"].item() - item["frame_index"].item() / fps) < 1e-4
        for key, feature in dataset.features.items():
            if feature["dtype"] == "video":
                height, width, channels = feature["shape"]
                assert tuple(item[key].shape) == (channels, height, width), (key, item[key].shape)
            elif key != "task":
                shape = tuple(feature["shape"])
                assert tuple(item[key].shape) == (() if shape == (1,) else shape), (key, item[key].shape)
                assert str(item[key].dtype) == f"torch.{feature['dtype']}", (key, item[key].dtype)
    batch = next(iter(torch.utils.data.DataLoader(dataset, batch_size=min(4, len(dataset)))))
    return {key: list(value.shape) for key, value in batch.items() if hasattr(value, "shape")}


def read_with_deltas(root, dataset):
    keys = [key for key in dataset.features if key == "action" or key.startswith("observation")]
    deltas = {key: [-1 / dataset.fps, 0.0, 1 / dataset.fps] for key in keys}
    delta_dataset = load(root, delta_timestamps=deltas)
    for position in range(0, len(delta_dataset), max(1, len(delta_dataset) // 20)):
        item = delta_dataset[position]
        assert all(item[key].shape[0] == 3 for key in keys)
    return len(keys)


def policy_features(dataset):
    from lerobot.datasets.utils import dataset_to_policy_features

    return {key: f"{feature.type.name}{list(feature.shape)}" for key, feature in dataset_to_policy_features(dataset.features).items()}


def compare_stats(root, dataset):
    """Compare every number of episodes_stats.jsonl with LeRobot's own computation on the rows."""
    import numpy as np
    from lerobot.datasets.compute_stats import compute_episode_stats

    compared = 0
    for line in (root / "meta/episodes_stats.jsonl").read_text().splitlines():
        record = json.loads(line)
        rows = dataset.hf_dataset.with_format("numpy").filter(
            lambda index, wanted=record["episode_index"]: index == wanted, input_columns="episode_index"
        )
        columns = {key: np.stack(list(rows[key])) for key in rows.column_names}
        columns["timestamp"] = np.stack([frame / dataset.fps for frame in columns["frame_index"].tolist()])
        for key, theirs in compute_episode_stats(columns, dataset.features).items():
            for name, value in theirs.items():
                assert value.tolist() == record["stats"][key][name], (record["episode_index"], key, name, value.tolist())
                compared += 1
    return compared


def resume(root, dataset):
    import numpy as np

    dataset.episode_buffer = dataset.create_episode_buffer()
    generator = np.random.default_rng(0)
    for _ in range(5):
        frame = {}
        for key, feature in dataset.features.items():
            if feature["dtype"] == "video":
                frame[key] = generator.integers(0, 255, tuple(feature["shape"]), dtype=np.uint8)
            elif key not in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
                frame[key] = generator.standard_normal(tuple(feature["shape"])).astype(np.float32)
        dataset.add_frame(frame, task="appended by lerobot")
    dataset.save_episode()
    again = load(root)
    read_everything(again)
    return again.num_episodes


def main():
    root = Path(sys.argv[1]).absolute()
    dataset = load(root)
    found = {"version": str(dataset.meta._version), "episodes": dataset.num_episodes, "frames": len(dataset), "fps": dataset.fps}
    found["tasks"] = dataset.meta.tasks
    found["batch"] = read_everything(dataset)
    found["delta_keys"] = read_with_deltas(root, dataset)
    found["policy"] = policy_features(dataset)
    if "--stats" in sys.argv:
        found["stats_compared"] = compare_stats(root, dataset)
    if "--resume" in sys.argv:
        found["episodes_after_resume"] = resume(root, dataset)
    sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    library = declare_operators()
    try:
        main()
    finally:
        shutil.rmtree(CACHE, ignore_errors=True)
