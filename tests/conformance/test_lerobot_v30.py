"""What LeRobot 0.4.4 makes of the datasets we write: its own conversion to v3.0."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.lerobot.commit import commit
from tests.conformance.script import output_of
from tests.e2e.recorders import recorded, simulated
from tests.shared.lerobot.parts import make_part

pytestmark = pytest.mark.conformance


@pytest.mark.parametrize("chunked", [False, True])
def test_its_converter_takes_our_dataset_and_every_item_loads(tmp_path: Path, lerobot_v30: Path, chunked: bool) -> None:
    for seed, num_frames in enumerate([8, 130, 1]):
        make_part(tmp_path / f"part{seed}", seed=seed, num_frames=num_frames, chunked=chunked, cameras=("front", "wrist"))
        commit(tmp_path / f"part{seed}", tmp_path / "dataset")

    found = output_of(lerobot_v30, "convert_v30.py", str(tmp_path / "dataset"))

    assert (found["version"], found["episodes"], found["frames"]) == ("3.0", 3, 139)
    assert found["item"]["action"] == ([2, 3] if chunked else [3])


def test_its_converter_takes_a_recording(tmp_path: Path, lerobot_v30: Path) -> None:
    with simulated(tmp_path) as robot:
        recorded(robot, dataset__num_episodes="2")

    found = output_of(lerobot_v30, "convert_v30.py", str(tmp_path / "hf" / "lab" / "blocks"))

    assert (found["version"], found["episodes"], found["frames"]) == ("3.0", 2, 72)
