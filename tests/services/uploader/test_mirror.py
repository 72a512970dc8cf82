"""How a mirrored dataset grows: what is sent, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.uploader.mirror import MIRRORED, Growth, adopt, growth
from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.info import read_info
from tests.shared.lerobot.parts import make_part, tree

VIDEO = layout.video_path("observation.images.front", 1)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    for seed in range(3):
        make_part(tmp_path / str(seed), seed=seed, num_frames=2, task="pick" if seed < 2 else "place")
    return [tmp_path / str(seed) for seed in range(3)]


def mirrored(dataset: Path, mirror: Path) -> dict[str, int]:
    """Copy what a mirror holds of a dataset and return the sizes."""
    for path in MIRRORED:
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes((dataset / path).read_bytes())
    return {path: (mirror / path).stat().st_size for path in MIRRORED}


def paths(grown: Growth) -> list[list[str]]:
    return [sorted(sending.path for sending in phase) for phase in grown.phases]


def test_what_belongs_together_is_sent_together_and_info_last(parts: list[Path], tmp_path: Path) -> None:
    commit(parts[0], tmp_path / "dataset")
    sizes = mirrored(tmp_path / "dataset", tmp_path / "mirror")

    grown = growth(parts[1], tmp_path / "mirror", remote_bytes=sizes)

    assert paths(grown) == [
        [layout.manifest_path(1)],
        sorted([layout.PROVENANCE_PATH, layout.STATS_PATH, VIDEO]),
        [layout.data_path(1), layout.EPISODES_PATH],
        [layout.INFO_PATH],
    ]
    assert (grown.committed.episode_index, grown.committed.already_in) == (1, False)


def test_the_first_episode_sends_every_file_of_its_part(parts: list[Path], tmp_path: Path) -> None:
    grown = growth(parts[0], tmp_path / "mirror", remote_bytes={})

    assert {sending.path: sending.file.read_bytes() for phase in grown.phases for sending in phase} == tree(parts[0])


def test_an_episode_that_is_in_sends_nothing(parts: list[Path], tmp_path: Path) -> None:
    for part in parts[:2]:
        commit(part, tmp_path / "dataset")
    sizes = mirrored(tmp_path / "dataset", tmp_path / "mirror")

    grown = growth(parts[1], tmp_path / "mirror", remote_bytes=sizes)

    assert grown.phases == ()
    assert (grown.committed.episode_index, grown.committed.already_in) == (1, True)


def test_lines_that_info_does_not_speak_of_are_cut_off_and_sent_anew(parts: list[Path], tmp_path: Path) -> None:
    commit(parts[0], tmp_path / "dataset")
    info = (tmp_path / "dataset" / layout.INFO_PATH).read_bytes()
    commit(parts[2], tmp_path / "dataset")
    sizes = mirrored(tmp_path / "dataset", tmp_path / "mirror")
    (tmp_path / "mirror" / layout.INFO_PATH).write_bytes(info)

    growth(parts[1], tmp_path / "mirror", remote_bytes=sizes)
    adopt(tmp_path / "mirror")

    expected = tmp_path / "expected"
    for part in parts[:2]:
        commit(part, expected)
    assert {path: (tmp_path / "mirror" / path).read_bytes() for path in MIRRORED} == {
        path: (expected / path).read_bytes() for path in MIRRORED
    }


def test_a_growth_that_was_not_adopted_leaves_nothing_to_the_next(parts: list[Path], tmp_path: Path) -> None:
    commit(parts[0], tmp_path / "dataset")
    sizes = mirrored(tmp_path / "dataset", tmp_path / "mirror")
    growth(parts[2], tmp_path / "mirror", remote_bytes=sizes)

    growth(parts[1], tmp_path / "mirror", remote_bytes=sizes)
    adopt(tmp_path / "mirror")

    assert read_info(tmp_path / "mirror").total_tasks == 1
    assert set(tree(tmp_path / "mirror")) == set(MIRRORED)


def test_a_last_line_without_its_number_is_refused(parts: list[Path], tmp_path: Path) -> None:
    commit(parts[0], tmp_path / "dataset")
    sizes = mirrored(tmp_path / "dataset", tmp_path / "mirror")
    (tmp_path / "mirror" / layout.TASKS_PATH).write_bytes(b'{"task": "pick"}\n')

    with pytest.raises(BadDataset, match=r"tasks\.jsonl: the last line has task_index=None"):
        growth(parts[1], tmp_path / "mirror", remote_bytes=sizes)
