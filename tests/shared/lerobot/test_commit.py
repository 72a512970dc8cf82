"""Committing parts into a growing dataset."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.errors import BadDataset, DiskFull
from shared.lerobot import layout
from shared.lerobot.check import check_dataset
from shared.lerobot.commit import commit, recover
from shared.lerobot.info import encoded_info, read_info
from shared.lerobot.tables import read_columns
from tests.shared.lerobot.parts import make_part, tree


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_three_parts_make_one_sound_dataset(tmp_path: Path) -> None:
    dataset = tmp_path / "made" / "below" / "dataset"
    for seed, (num_frames, task) in enumerate([(4, "pick"), (7, "place"), (5, "pick")]):
        make_part(tmp_path / str(seed), seed=seed, num_frames=num_frames, task=task, cameras=("left", "right"))
        committed = commit(tmp_path / str(seed), dataset)
        assert (committed.episode_index, committed.num_frames, committed.already_in) == (seed, num_frames, False)

    report = check_dataset(dataset)

    assert report.problems == ()
    assert (report.episodes, report.frames, report.videos, report.tasks) == (3, 16, 6, 2)
    assert lines(dataset / layout.TASKS_PATH) == [{"task_index": 0, "task": "pick"}, {"task_index": 1, "task": "place"}]
    second, third = (read_columns(dataset / layout.data_path(index)) for index in (1, 2))
    assert second["index"].tolist() == list(range(4, 11))
    assert second["task_index"].tolist() == [1] * 7
    assert third["task_index"].tolist() == [0] * 5
    np.testing.assert_array_equal(third["action"], read_columns(tmp_path / "2" / layout.data_path(0))["action"])
    video = layout.video_path("observation.images.left", 2)
    assert (dataset / video).read_bytes() == (tmp_path / "2" / layout.video_path("observation.images.left", 0)).read_bytes()
    assert json.loads((dataset / layout.manifest_path(2)).read_text())["more"] == [2]
    assert [path.name for path in (dataset / layout.STATE_FOLDER).iterdir()] == ["lock"]


def test_the_first_commit_holds_what_the_part_holds(tmp_path: Path) -> None:
    make_part(tmp_path / "part")

    commit(tmp_path / "part", tmp_path / "dataset")

    assert tree(tmp_path / "dataset") == tree(tmp_path / "part")


def test_an_episode_that_is_in_changes_nothing(tmp_path: Path) -> None:
    for seed in range(2):
        make_part(tmp_path / str(seed), seed=seed)
        commit(tmp_path / str(seed), tmp_path / "dataset")
    before = tree(tmp_path / "dataset")

    again = commit(tmp_path / "0", tmp_path / "dataset")

    assert (again.episode_index, again.num_frames, again.already_in) == (0, 8, True)
    assert tree(tmp_path / "dataset") == before


def test_a_part_can_be_removed_after_its_commit(tmp_path: Path) -> None:
    make_part(tmp_path / "part")
    commit(tmp_path / "part", tmp_path / "dataset")

    shutil.rmtree(tmp_path / "part")

    assert check_dataset(tmp_path / "dataset").problems == ()


@pytest.mark.parametrize("episode_id", ["ep1", 'a "quoted" \\ name', "дубль", "ep10"])
def test_an_episode_is_found_again_whatever_its_name(tmp_path: Path, episode_id: str) -> None:
    for seed, name in enumerate(["ep10", 'a "quoted" \\ name', "дубль", "ep1"]):
        make_part(tmp_path / str(seed), seed=seed, num_frames=2, episode_id=name)
        commit(tmp_path / str(seed), tmp_path / "dataset")
        if name == episode_id:
            number = seed

    again = commit(tmp_path / str(number), tmp_path / "dataset")

    assert (again.episode_index, again.already_in) == (number, True)


def test_another_digest_of_the_same_episode_is_refused_with_the_remedy(tmp_path: Path) -> None:
    make_part(tmp_path / "old", seed=1)
    make_part(tmp_path / "new", seed=1, digest="sha256:changed")
    commit(tmp_path / "old", tmp_path / "dataset")

    with pytest.raises(
        BadDataset, match=r"ep1 of lab \(nearest\) is already in as episode 0.*sha256:changed.*delete the old episode first"
    ):
        commit(tmp_path / "new", tmp_path / "dataset")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fps": 60}, r"^FPS mismatch: existing dataset has fps=30, but you specified fps=60\.$"),
        ({"robot_type": "koch"}, "Robot type mismatch: existing dataset has robot_type=bi_so100, but you specified robot_type=koch"),
        ({"cameras": ("wrist",)}, "Feature mismatch: .*'observation.images.front'.*'observation.images.wrist'"),
        ({"chunked": True}, r"Feature mismatch: existing dataset has action with .*\[3\].*but you specified .*\[2, 3\]"),
        ({"names": ["x", "y", "z"]}, "Feature mismatch: existing dataset has action with .*'pan'.*but you specified .*'x'"),
    ],
)
def test_what_does_not_fit_is_refused_naming_both_sides(tmp_path: Path, options: dict[str, object], sentence: str) -> None:
    make_part(tmp_path / "first", seed=0)
    make_part(tmp_path / "second", seed=1, **options)  # type: ignore[arg-type]
    commit(tmp_path / "first", tmp_path / "dataset")
    before = tree(tmp_path / "dataset")

    with pytest.raises(BadDataset, match=sentence):
        commit(tmp_path / "second", tmp_path / "dataset")

    assert tree(tmp_path / "dataset") == before


def test_episode_1000_opens_the_second_chunk(tmp_path: Path) -> None:
    make_part(tmp_path / "first", seed=0, num_frames=2)
    make_part(tmp_path / "second", seed=1, num_frames=2)
    dataset = tmp_path / "dataset"
    commit(tmp_path / "first", dataset)
    pretend_episodes(dataset, 1000)

    committed = commit(tmp_path / "second", dataset)

    info = read_info(dataset)
    assert committed.episode_index == 1000
    assert (info.total_chunks, info.total_videos, info.total_frames, info.splits) == (2, 1001, 2002, {"train": "0:1001"})
    assert (dataset / "data/chunk-001/episode_001000.parquet").is_file()
    assert (dataset / "videos/chunk-001/observation.images.front/episode_001000.mp4").is_file()
    assert read_columns(dataset / layout.data_path(1000))["index"].tolist() == [2000, 2001]


def pretend_episodes(dataset: Path, num_episodes: int) -> None:
    """Make a dataset of one episode say that it has many; only the newest table is there."""
    info = read_info(dataset)
    (dataset / layout.INFO_PATH).write_bytes(
        encoded_info(
            type(info)(
                **{name: getattr(info, name) for name in info.__struct_fields__ if not name.startswith("total")},
                total_episodes=num_episodes,
                total_frames=info.total_frames * num_episodes,
                total_tasks=1,
                total_videos=num_episodes,
                total_chunks=1,
            )
        )
    )
    for path in (layout.EPISODES_PATH, layout.STATS_PATH):
        (dataset / path).write_bytes((dataset / path).read_bytes() * num_episodes)
    shutil.copy(dataset / layout.data_path(0), dataset / layout.data_path(num_episodes - 1))


@pytest.mark.parametrize(
    ("path", "content", "sentence"),
    [
        (layout.EPISODES_PATH, b"", "episodes.jsonl has 0 lines, info.json says 1 episodes"),
        (layout.TASKS_PATH, b"", "is not numbered 0 to 0"),
        (layout.data_path(1), b"stray", "episode_000001.parquet is there, but info.json says 1 episodes"),
        (layout.INFO_PATH, b"{}", "missing required field"),
        (f"{layout.STATE_FOLDER}/journal.json", b"{", "expected the journal of a commit"),
    ],
)
def test_nothing_is_built_on_a_dataset_that_contradicts_itself(tmp_path: Path, path: str, content: bytes, sentence: str) -> None:
    make_part(tmp_path / "first", seed=0)
    make_part(tmp_path / "second", seed=1)
    commit(tmp_path / "first", tmp_path / "dataset")
    (tmp_path / "dataset" / path).write_bytes(content)
    before = tree(tmp_path / "dataset")

    with pytest.raises(BadDataset, match=sentence):
        commit(tmp_path / "second", tmp_path / "dataset")

    assert tree(tmp_path / "dataset") == before


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    make_part(tmp_path / "part")
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/thesis.txt").write_text("precious")

    with pytest.raises(BadDataset, match="is there but is no dataset"):
        commit(tmp_path / "part", tmp_path / "dataset")

    assert [path.name for path in (tmp_path / "dataset").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_becomes_the_dataset(tmp_path: Path) -> None:
    make_part(tmp_path / "part")
    (tmp_path / "dataset").mkdir()

    commit(tmp_path / "part", tmp_path / "dataset")

    assert check_dataset(tmp_path / "dataset").problems == ()


def test_only_a_part_of_one_episode_with_a_manifest_is_taken(tmp_path: Path) -> None:
    for seed in range(2):
        make_part(tmp_path / str(seed), seed=seed)
        commit(tmp_path / str(seed), tmp_path / "two")
    (tmp_path / "0" / layout.manifest_path(0)).unlink()

    with pytest.raises(BadDataset, match="holds 2 episodes"):
        commit(tmp_path / "two", tmp_path / "dataset")
    with pytest.raises(BadDataset, match=r"episode_000000\.json: cannot be read"):
        commit(tmp_path / "0", tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_processes_that_commit_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    for seed in range(8):
        make_part(tmp_path / str(seed), seed=seed, num_frames=3 + seed)
    parts = [tmp_path / str(seed) for seed in (*range(8), *range(8))]

    with multiprocessing.get_context("spawn").Pool(3) as pool:
        committed = pool.starmap(commit, [(part, tmp_path / "dataset") for part in parts], chunksize=1)
        pool.close()
        pool.join()

    report = check_dataset(tmp_path / "dataset", quick=True)
    assert report.problems == ()
    assert (report.episodes, report.frames) == (8, sum(range(3, 11)))
    assert sorted(each.episode_index for each in committed if not each.already_in) == list(range(8))
    assert [first.episode_index for first in committed[:8]] == [second.episode_index for second in committed[8:]]


def test_recovery_of_a_sound_or_absent_dataset_changes_nothing(tmp_path: Path) -> None:
    make_part(tmp_path / "part")
    commit(tmp_path / "part", tmp_path / "dataset")
    before = tree(tmp_path / "dataset")

    assert not recover(tmp_path / "dataset")
    assert not recover(tmp_path / "absent" / "dataset")
    assert not recover(tmp_path / "part")
    assert tree(tmp_path / "dataset") == before
    assert not (tmp_path / "absent").exists()
    assert not (tmp_path / "part" / layout.STATE_FOLDER).exists()


def test_keys_of_other_tools_and_a_missing_final_newline_survive(tmp_path: Path) -> None:
    for seed in range(2):
        make_part(tmp_path / str(seed), seed=seed)
    dataset = tmp_path / "dataset"
    commit(tmp_path / "0", dataset)
    info = json.loads((dataset / layout.INFO_PATH).read_text())
    (dataset / layout.INFO_PATH).write_text(json.dumps({**info, "license": "mit"}))
    (dataset / layout.EPISODES_PATH).write_text('{"episode_index": 0, "tasks": ["pick the cube"], "length": 8, "operator": "ada"}')

    commit(tmp_path / "1", dataset)

    assert json.loads((dataset / layout.INFO_PATH).read_text())["license"] == "mit"
    assert [line.get("operator") for line in lines(dataset / layout.EPISODES_PATH)] == ["ada", None]
    assert check_dataset(dataset, quick=True).problems == ()


@pytest.mark.parametrize("num_before", [0, 1])
def test_a_commit_that_is_forbidden_at_the_last_moment_changes_nothing_and_the_next_one_succeeds(tmp_path: Path, num_before: int) -> None:
    for seed in range(2):
        make_part(tmp_path / str(seed), seed=seed)
    dataset = tmp_path / "datasets" / "stack"
    if num_before:
        commit(tmp_path / "0", dataset)
    before = tree(tmp_path / "datasets") if num_before else {}

    def forbid() -> None:
        raise DiskFull("forbidden")

    with pytest.raises(DiskFull, match="forbidden"):
        commit(tmp_path / "1", dataset, before_certain=forbid)
    assert (tree(dataset.parent) if num_before else tree(dataset)) == before
    assert recover(dataset) is False
    assert commit(tmp_path / "1", dataset).episode_index == num_before
    assert check_dataset(dataset).problems == ()
