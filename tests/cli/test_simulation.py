"""The simulated robot's raw episodes."""

from pathlib import Path

import cv2
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from cli.simulation import ARMS, RATE_HZ_BY_CAMERA, make_motion, strategy_document, write_episode
from shared.config import decode_strategy


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "e1"
    write_episode(folder, seconds=1.0, seed=1)
    return folder


def test_arms_have_rising_independent_times_near_their_rate(episode: Path) -> None:
    times = [pq.read_table(episode / "joints" / f"{arm}.parquet")["timestamps"].to_numpy() for arm in ARMS]

    assert all(len(each) == 250 and (np.diff(each) > 0).all() for each in times)
    assert all(abs(np.diff(each).mean() - 4000) < 20 for each in times)
    assert len({tuple(each) for each in times}) == len(ARMS)


def test_cameras_have_jittered_jpegs_of_the_right_size_and_number(episode: Path) -> None:
    for camera, rate_hz in RATE_HZ_BY_CAMERA.items():
        files = sorted((episode / "images" / camera).iterdir(), key=lambda path: int(path.stem))
        periods = np.diff([int(path.stem) for path in files])
        image = cv2.imread(str(files[0]))

        assert len(files) == int(0.9 * rate_hz)
        assert image is not None
        assert image.shape == (480, 640, 3)
        assert len(set(periods)) > 3
        assert abs(periods.mean() - 1e6 / rate_hz) < 500


def test_pictures_move(episode: Path) -> None:
    files = sorted((episode / "images" / "cam_env").iterdir())
    first, last = (cv2.imread(str(path)).astype(int) for path in (files[0], files[-1]))  # type: ignore[union-attr]

    assert np.abs(first - last).max() > 100


def test_follower_is_where_its_leader_was() -> None:
    motion = make_motion(np.random.default_rng(1))
    times_s = np.linspace(1, 2, 50)

    np.testing.assert_allclose(motion.follower("left", times_s), motion.leader("left", times_s - 0.05))


def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path, episode: Path) -> None:
    write_episode(tmp_path / "again", seconds=1.0, seed=1)
    write_episode(tmp_path / "other", seconds=1.0, seed=2)
    contents = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*.*")} for root in (episode, tmp_path / "again")]

    assert contents[0] == contents[1]
    assert {path.name for path in (tmp_path / "other").rglob("*.jpg")} != {path.name for path in episode.rglob("*.jpg")}


def test_metadata_and_strategy_fit_the_robot(episode: Path) -> None:
    metadata = msgspec.json.decode((episode / "joints" / "metadata.json").read_bytes())
    config = decode_strategy(strategy_document(), place="test")

    assert metadata == {"task": "Put the red cube into the tray.", "robot_type": "simulated_bimanual", "joints_fps": 250}
    assert config.robot.type == metadata["robot_type"]
    assert [camera.name for camera in config.cameras] == list(RATE_HZ_BY_CAMERA)
