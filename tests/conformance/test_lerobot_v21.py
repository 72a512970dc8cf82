"""What LeRobot 0.3.3 itself says of the datasets we write."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.uploader.mirror import MIRRORED, growth
from shared.lerobot.commit import commit
from shared.lerobot.hub import HubTarget, push_dataset
from shared.lerobot.stats import ImageStats, sample_indices
from shared.settings import Secret
from tests.conformance.script import output_of
from tests.e2e.recorders import recorded, simulated
from tests.hub_server import TOKEN, hub_server
from tests.shared.lerobot.parts import make_part

pytestmark = pytest.mark.conformance


def make_dataset(root: Path, *, chunked: bool) -> Path:
    for seed, (num_frames, task) in enumerate([(8, "pick"), (130, "堆叠积木"), (1, "pick")]):
        make_part(root / f"part{seed}", seed=seed, num_frames=num_frames, task=task, chunked=chunked, cameras=("front", "wrist"))
        commit(root / f"part{seed}", root / "dataset")
    return root / "dataset"


@pytest.mark.parametrize("chunked", [False, True])
def test_every_item_loads_and_every_statistic_is_lerobots_own_number(tmp_path: Path, lerobot_v21: Path, chunked: bool) -> None:
    dataset = make_dataset(tmp_path, chunked=chunked)

    found = output_of(lerobot_v21, "load_v21.py", str(dataset), "--stats")

    assert (found["version"], found["episodes"], found["frames"], found["fps"]) == ("2.1", 3, 139, 30)
    assert found["tasks"] == {"0": "pick", "1": "堆叠积木"}
    assert found["batch"]["action"] == ([4, 2, 3] if chunked else [4, 3])
    assert found["delta_keys"] == 4
    assert found["stats_compared"] == 3 * 7 * 5


def test_lerobot_appends_to_our_dataset_and_we_append_to_its(tmp_path: Path, lerobot_v21: Path) -> None:
    dataset = make_dataset(tmp_path, chunked=True)
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    make_part(tmp_path / "later", seed=9, chunked=True, cameras=("front", "wrist"))

    resumed = output_of(lerobot_v21, "load_v21.py", str(copy), "--resume")
    committed = commit(tmp_path / "later", copy)
    found = output_of(lerobot_v21, "load_v21.py", str(copy), "--stats")

    assert resumed["episodes_after_resume"] == 4
    assert committed.episode_index == 4
    assert (found["episodes"], found["frames"]) == (5, 139 + 5 + 8)


def test_a_copy_of_a_bucket_loads_between_any_two_phases_of_a_commit(tmp_path: Path, lerobot_v21: Path) -> None:
    dataset, mirror, found = make_dataset(tmp_path, chunked=False), tmp_path / "mirror", []
    make_part(tmp_path / "later", seed=9, task="push", cameras=("front", "wrist"))
    for path in MIRRORED:
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(dataset / path, mirror / path)
    grown = growth(tmp_path / "later", mirror, remote_bytes={path: (mirror / path).stat().st_size for path in MIRRORED})

    for phase in grown.phases:
        for sending in phase:
            shutil.copyfile(sending.file, dataset / sending.path)
        loaded = output_of(lerobot_v21, "load_v21.py", str(dataset))
        found.append((loaded["episodes"], loaded["frames"]))

    assert found == [(3, 139), (3, 139), (3, 147), (4, 147)]


@pytest.mark.parametrize(("num_images", "height", "width"), [(7, 48, 64), (130, 48, 64), (3, 480, 640), (3, 640, 360), (3, 300, 300)])
def test_image_statistics_are_lerobots_own(tmp_path: Path, lerobot_v21: Path, num_images: int, height: int, width: int) -> None:
    generator = np.random.default_rng(num_images)
    images = [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(num_images)]
    for index, image in enumerate(images):
        assert cv2.imwrite(str(tmp_path / f"{index:06d}.png"), image)
    stats = ImageStats()
    for index in sample_indices(num_images):
        stats.add(images[index], bgr=True)

    theirs = output_of(lerobot_v21, "image_stats_v21.py", str(tmp_path))

    ours = stats.stats().record()
    assert (ours.min, ours.max, ours.count) == (theirs["min"], theirs["max"], theirs["count"])
    np.testing.assert_allclose([ours.mean, ours.std], [theirs["mean"], theirs["std"]], rtol=1e-13)


@pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")  # inside huggingface_hub
def test_lerobot_downloads_by_the_version_tag_what_was_pushed(tmp_path: Path, lerobot_v21: Path) -> None:
    dataset = make_dataset(tmp_path, chunked=False)

    with hub_server() as hub:
        target = HubTarget(repo_id="user/cubes", endpoint=hub.url, token=Secret(TOKEN))
        push_dataset(dataset, target, on_progress=lambda _: None)
        found = output_of(lerobot_v21, "download_v21.py", "user/cubes", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)

    assert (found["revision"], found["episodes"], found["frames"]) == ("v2.1", 3, 139)
    assert found["batch"]["observation.images.wrist"] == [4, 3, 48, 64]


def test_a_recording_and_its_resumption_load(tmp_path: Path, lerobot_v21: Path) -> None:
    with simulated(tmp_path) as robot:
        recorded(robot, dataset__num_episodes="2")
        recorded(robot, dataset__num_episodes="3", dataset__resume="true")

    found = output_of(lerobot_v21, "load_v21.py", str(tmp_path / "hf" / "lab" / "blocks"))

    assert (found["episodes"], found["frames"], found["tasks"]) == (3, 108, {"0": "Stack blocks."})
    assert (found["batch"]["action"], found["batch"]["observation.state"]) == ([4, 12], [4, 12])


def test_we_go_on_with_a_dataset_that_lerobot_began(tmp_path: Path, lerobot_v21: Path) -> None:
    dataset = tmp_path / "hf" / "lab" / "blocks"
    begun = output_of(lerobot_v21, "create_v21.py", str(dataset))
    with simulated(tmp_path) as robot:
        resumed = recorded(robot, dataset__num_episodes="2", dataset__resume="true")

    found = output_of(lerobot_v21, "load_v21.py", str(dataset))

    assert begun == {"episodes": 1, "frames": 12}
    assert resumed.has("Recording episode 2/2"), resumed.printed
    assert (found["episodes"], found["frames"]) == (2, 12 + 36)
