"""A part is a complete dataset of one episode."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.check import check_dataset
from shared.lerobot.part import max_num_frames, write_part
from shared.lerobot.tables import read_columns
from tests.shared.lerobot.parts import make_part, tree

MANIFEST = {"source": "lab", "episode_id": "ep", "strategy": "nearest", "digest": "sha256:0"}


def write(root: Path, *, columns: dict[str, np.ndarray], manifest: bytes | dict[str, str] = MANIFEST) -> None:
    write_part(root, columns=columns, names={}, cameras={}, fps=30, task="pick", robot_type="so100", manifest=manifest)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_part_is_a_dataset_without_problems(tmp_path: Path, chunked: bool) -> None:
    info = make_part(tmp_path, num_frames=12, cameras=("left", "right"), chunked=chunked)

    report = check_dataset(tmp_path)

    assert report.problems == ()
    assert (report.episodes, report.frames, report.videos, report.tasks) == (1, 12, 2, 1)
    assert (info.num_frames, info.duration_s) == (12, 12 / 30)
    assert info.num_bytes == sum(len(content) for content in tree(tmp_path).values())


def test_the_same_episode_makes_the_same_bytes(tmp_path: Path) -> None:
    make_part(tmp_path / "one")
    make_part(tmp_path / "two")

    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_metadata_is_what_lerobot_writes(tmp_path: Path) -> None:
    make_part(tmp_path, num_frames=3, chunked=True, task="堆叠")

    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    stats = json.loads((tmp_path / "meta/episodes_stats.jsonl").read_text())["stats"]
    assert features["action"] == {"dtype": "float32", "shape": [2, 3], "names": {"motors": ["pan", "lift", "grip"]}}
    assert (tmp_path / "meta/tasks.jsonl").read_text() == '{"task_index": 0, "task": "堆叠"}\n'
    assert (tmp_path / "meta/episodes.jsonl").read_text() == '{"episode_index": 0, "tasks": ["堆叠"], "length": 3}\n'
    assert list(stats) == list(features)
    assert stats["timestamp"]["max"] == [2 / 30], "LeRobot takes this one from float64 times"
    assert np.shape(stats["action"]["mean"]) == (2, 3)
    assert list(read_columns(tmp_path / layout.data_path(0))) == [key for key in features if "images" not in key]


def test_the_manifest_travels_as_it_is(tmp_path: Path) -> None:
    content = json.dumps({**MANIFEST, "alignment": {"p95_us": 1}}).encode()

    write(tmp_path, columns={"action": np.zeros((2, 1), np.float32)}, manifest=content)

    assert (tmp_path / "meta/episodeflow/episode_000000.json").read_bytes() == content


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"action": np.array([[0.0], [np.inf]], np.float32)}, "column action is not finite at row 1"),
        ({"observation.image_gain": np.zeros((2, 1), np.float32)}, "takes every name with 'image' in it for a camera"),
        ({"action/left": np.zeros((2, 2), np.float32)}, "LeRobot forbids '/'"),
        ({"index": np.zeros(2, np.float32)}, "keeps timestamp, frame_index"),
        ({"action": np.zeros((1024 * 30 + 60, 2), np.float32)}, r"carry 30728 \(1024 s\): split the recording"),
    ],
)
def test_what_lerobot_could_not_train_on_is_refused(tmp_path: Path, columns: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(BadDataset, match=sentence):
        write(tmp_path, columns=columns)

    assert not (tmp_path / layout.INFO_PATH).exists()


def test_one_joint_is_a_scalar_column_as_lerobot_stores_it(tmp_path: Path) -> None:
    write(tmp_path, columns={"action": np.array([[1.0], [2.0]], np.float32)})

    assert read_columns(tmp_path / layout.data_path(0))["action"].tolist() == [1.0, 2.0]
    assert check_dataset(tmp_path).problems == ()


def test_a_manifest_without_its_keys_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="missing required field `digest`"):
        write(tmp_path, columns={"action": np.zeros((2, 2), np.float32)}, manifest={"source": "lab", "episode_id": "e", "strategy": "s"})


def test_columns_of_different_lengths_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\] rows"):
        write(tmp_path, columns={"action": np.zeros((2, 2), np.float32), "observation.state": np.zeros((3, 2), np.float32)})


def test_the_longest_episode_is_found_by_lerobots_own_arithmetic() -> None:
    assert max_num_frames(30) // 30 == 1024
    assert max_num_frames(25) // 25 == 2048
