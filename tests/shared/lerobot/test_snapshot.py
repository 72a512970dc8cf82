"""A dataset held still while it grows."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.snapshot import snapshot
from tests.shared.lerobot.parts import make_part, tree


def make_dataset(folder: Path, num_episodes: int = 1) -> Path:
    for seed in range(num_episodes):
        make_part(folder / f"part{seed}", seed=seed)
        commit(folder / f"part{seed}", folder / "dataset")
    return folder / "dataset"


def test_episode_that_is_committed_meanwhile_is_not_part_of_it(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    before = tree(dataset)
    make_part(tmp_path / "more", seed=7)

    with snapshot(dataset) as taken:
        commit(tmp_path / "more", dataset)
        held = {name: path.read_bytes() for name, path in taken.files.items()}

    assert held == before
    assert taken.info.total_episodes == 1
    assert len(tree(dataset)) > len(before)


def test_nothing_of_it_stays_behind_even_after_a_kill(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    left_by_a_kill = dataset / layout.STATE_FOLDER / "snapshot" / "meta" / "info.json"
    left_by_a_kill.parent.mkdir(parents=True)
    left_by_a_kill.write_text("{}")

    with snapshot(dataset) as taken:
        info = taken.files[layout.INFO_PATH].read_bytes()

    assert info == (dataset / layout.INFO_PATH).read_bytes()
    assert not (dataset / layout.STATE_FOLDER / "snapshot").exists()


def test_interrupted_commit_is_finished_first(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    staged = dataset / layout.STATE_FOLDER / "staging" / "000.staged"
    staged.parent.mkdir()
    staged.write_text("note")
    journal = dataset / layout.STATE_FOLDER / "journal.json"
    journal.write_text('{"moves": [{"staged": ".episodeflow/staging/000.staged", "path": "meta/note.json"}]}')

    with snapshot(dataset) as taken:
        names = list(taken.files)

    assert "meta/note.json" in names
    assert not journal.exists()


def test_hidden_files_temporary_images_and_our_own_state_are_left_out(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    for name in ("images/cam/frame.png", ".cache/x", "meta/.info.json.partial", "LICENSE"):
        (dataset / name).parent.mkdir(parents=True, exist_ok=True)
        (dataset / name).write_text("x")

    with snapshot(dataset) as taken:
        names = set(taken.files)

    assert "LICENSE" in names
    assert {name for name in names if "/." in name or name.startswith((".", "images/"))} == set()


@pytest.mark.parametrize("name", [layout.video_path("observation.images.front", 0), layout.data_path(0), layout.STATS_PATH])
def test_dataset_with_a_missing_file_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    dataset = make_dataset(tmp_path)
    (dataset / name).unlink()

    with pytest.raises(BadDataset, match=f"{name} is missing"), snapshot(dataset):
        pass


def test_table_that_is_no_episode_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    (dataset / "data/chunk-000/copy.parquet").write_bytes(b"PAR1")

    with pytest.raises(BadDataset, match=r"data/chunk-000/copy.parquet is none of its 1 episodes"), snapshot(dataset):
        pass


def test_folder_without_a_dataset_is_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"meta/info.json"), snapshot(tmp_path):
        pass

    assert list(tmp_path.iterdir()) == []
