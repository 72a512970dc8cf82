"""What a recording tells the converter: arms, cameras and names as LeRobot has them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.converter.video import check_settings
from services.recorder.options import RecordOptions
from services.recorder.recipe import chosen_codec, expected_info, expected_strategy, strategy_document, strategy_overrides, video_codec
from shared.config import StrategyConfig, VideoConfig, load_strategy
from shared.lerobot.info import decoded_info, encoded_info
from tests.services.recorder.arrangements import options

ROOT = Path(__file__).parents[3]
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
NAMES = [f"{side}_{joint}.pos" for side in ("left", "right") for joint in JOINTS]


def test_the_overrides_fit_every_strategy_file_of_the_repository() -> None:
    for path in sorted((ROOT / "config" / "strategies").glob("*.yaml")):
        found = load_strategy(path, {}, strategy_overrides(options(), codec="h264", usual=VideoConfig()))

        assert [arm.name for arm in found.robot.arms] == ["left_slave", "right_slave", "left_master", "right_master"]
        assert (found.base_camera.name, found.fps, found.alignment.timeline) == ("left", 30, "uniform")
        assert found.alignment.on_gap == "hold"


def test_features_are_named_and_laid_out_as_lerobot_records_them() -> None:
    info = expected_info(options(), codec="h264")

    assert list(info.columns)[:2] == ["action", "observation.state"]
    assert info.features["action"].names == info.features["observation.state"].names == NAMES
    assert info.features["action"].shape == (12,)
    assert info.features["observation.images.front"].shape == (240, 320, 3)
    assert (info.robot_type, info.fps) == ("bi_so100_follower", 30)


def test_chunks_of_actions_are_expected_where_they_are_asked_for() -> None:
    assert expected_info(options(dataset__strategy="chunking"), codec="h264").features["action"].shape == (10, 12)
    assert expected_strategy(options(dataset__strategy="chunking")).alignment.chunk_size == 10


def test_a_single_arm_has_names_without_a_side() -> None:
    single = options(
        robot__type="so101_follower", robot__port="/dev/f", robot__left_arm_port=None, robot__right_arm_port=None,
        teleop__type="so101_leader", teleop__port="/dev/l", teleop__left_arm_port=None, teleop__right_arm_port=None,
    )  # fmt: skip

    assert [arm.name for arm in expected_strategy(single).robot.arms] == ["slave", "master"]
    assert expected_info(single, codec="h264").features["action"].names == [f"{joint}.pos" for joint in JOINTS]


@pytest.mark.parametrize(
    ("asked", "existing", "usual", "expected"),
    [
        (None, None, "h264", "h264"),
        (None, None, "hevc", "hevc"),
        ("libsvtav1", None, "h264", "av1"),
        ("h264", "av1", "h264", "av1"),
    ],
)
def test_the_codec_is_the_datasets_then_the_one_asked_for_then_the_usual(
    asked: str | None, existing: str | None, usual: str, expected: str
) -> None:
    assert chosen_codec(options(dataset__vcodec=asked), existing=existing, usual=usual) == expected


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_an_event_means_the_same_with_the_file_of_any_later_recording(tmp_path: Path, codec: str) -> None:
    def resolved(file: RecordOptions, overrides: dict[str, object]) -> StrategyConfig:
        path = tmp_path / "record_strategy.yaml"
        path.write_bytes(msgspec.yaml.encode(strategy_document(file)))
        return load_strategy(path, {}, overrides)

    mine = options(dataset__vcodec=codec)
    overrides = strategy_overrides(mine, codec=codec, usual=expected_strategy(mine).video)
    later = options(
        dataset__vcodec="hevc", dataset__fps="10", dataset__episode_time_s="5", control_rate_hz="50", dataset__strategy="nearest"
    )

    assert resolved(later, overrides) == resolved(mine, overrides) == expected_strategy(mine)


def test_quality_preset_and_keyframes_of_a_labs_file_come_with_the_event() -> None:
    usual = VideoConfig(codec="hevc", crf=20, preset="slow", gop=15)
    video = strategy_overrides(options(), codec="hevc", usual=usual)["video"]

    assert video == {"fps": 30, "codec": "hevc", "crf": 20, "preset": "slow", "gop": 15}


def test_another_codec_than_the_files_comes_with_a_preset_it_knows() -> None:
    nearest = ROOT / "config" / "strategies" / "nearest.yaml"
    video = load_strategy(nearest, {}, strategy_overrides(options(), codec="av1", usual=VideoConfig())).video

    assert (video.codec, video.preset, video.crf) == ("av1", "10", 30)
    check_settings(video)


def test_the_codec_of_a_dataset_is_read_from_its_cameras() -> None:
    assert video_codec(decoded_info(encoded_info(expected_info(options(), codec="av1")), place="info.json")) == "av1"
