"""What info.json says of a dataset."""

from __future__ import annotations

import json

import pytest

from shared.errors import BadDataset
from shared.lerobot.info import Feature, decoded_info, empty_info, encoded_info, grown, video_feature


def example() -> dict[str, object]:
    camera = video_feature(height=480, width=640, fps=30, codec="h264", pix_fmt="yuv420p")
    features = {"action": Feature(dtype="float32", shape=(2,), names=["a", "b"]), "observation.images.left": camera}
    return dict(json.loads(encoded_info(empty_info(robot_type="so100", fps=30, features=features))))


def test_keys_stand_in_lerobots_order_with_four_spaces() -> None:
    content = json.dumps(example(), indent=4)

    assert list(example()) == [
        *("codebase_version", "robot_type", "total_episodes", "total_frames", "total_tasks", "total_videos", "total_chunks"),
        *("chunks_size", "fps", "splits", "data_path", "video_path", "features"),
    ]
    assert list(example()["features"]) == [  # type: ignore[call-overload]
        *("action", "observation.images.left"),
        *("timestamp", "frame_index", "episode_index", "index", "task_index"),
    ]
    assert encoded_info(decoded_info(content.encode(), place="info")).decode() == content


def test_a_camera_is_described_as_lerobot_describes_its_own() -> None:
    assert example()["features"]["observation.images.left"] == {  # type: ignore[index]
        "dtype": "video",
        "shape": [480, 640, 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": 480,
            "video.width": 640,
            "video.codec": "h264",
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": 30,
            "video.channels": 3,
            "has_audio": False,
        },
    }


def test_totals_follow_from_the_episodes() -> None:
    info = decoded_info(
        json.dumps({**example(), "total_episodes": 1000, "total_frames": 9, "splits": {"test": "0:1"}}).encode(), place="info"
    )

    more = grown(info, num_frames=5, total_tasks=2)

    assert (more.total_episodes, more.total_frames, more.total_tasks, more.total_videos, more.total_chunks) == (1001, 14, 2, 1001, 2)
    assert more.splits == {"test": "0:1", "train": "0:1001"}


def test_keys_of_other_tools_survive_a_rewrite() -> None:
    document = example()
    document["features"]["action"]["unit"] = "rad"  # type: ignore[index]
    document["license"] = "apache-2.0"

    info = decoded_info(json.dumps(document).encode(), place="info")

    assert json.loads(encoded_info(info)) == document


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"codebase_version": "v3.0"}, "codebase_version is v3.0, expected v2.1"),
        ({"fps": "30"}, "Expected `int`, got `str`"),
        ({"fps": 0}, "expected both to be at least 1"),
        ({"chunks_size": 0}, "expected both to be at least 1"),
        ({"data_path": "data/{episode}.parquet"}, "placeholder that is not LeRobot's"),
        ({"features": {"action": {"shape": [1]}}}, r"features.action: Object missing required field `dtype`"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadDataset, match=sentence):
        decoded_info(json.dumps({**example(), **change}).encode(), place="info.json")
