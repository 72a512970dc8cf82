"""Reading a growing dataset, from a folder and from a bucket."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.state import dataset_state, is_beginning
from shared.store import Store
from tests.shared.lerobot.parts import make_part, tree

PREFIX = "datasets/me/stack/"


async def put_dataset(store: Store, folder: Path) -> None:
    for path, content in tree(folder).items():
        await store.put_bytes(content, PREFIX + path)


def made_dataset(tmp_path: Path) -> Path:
    for seed, task in enumerate(("pick", "place")):
        make_part(tmp_path / str(seed), seed=seed, task=task, num_frames=2)
        commit(tmp_path / str(seed), tmp_path / "dataset")
    return tmp_path / "dataset"


async def test_a_place_without_anything_has_no_state(store: Store) -> None:
    assert await dataset_state(store, PREFIX) is None


async def test_state_says_what_is_in(store: Store, tmp_path: Path) -> None:
    await put_dataset(store, made_dataset(tmp_path))

    state = await dataset_state(store, PREFIX)

    assert state is not None
    assert (state.info.total_episodes, state.info.total_frames, state.info.fps) == (2, 4, 30)
    assert state.tasks == ["pick", "place"]
    assert state.committed == {("lab", "ep0"), ("lab", "ep1")}


async def test_what_info_does_not_speak_of_does_not_count(store: Store, tmp_path: Path) -> None:
    folder = made_dataset(tmp_path)
    await put_dataset(store, folder)
    await store.put_bytes(tree(tmp_path / "0")[layout.INFO_PATH], PREFIX + layout.INFO_PATH)

    state = await dataset_state(store, PREFIX)

    assert state is not None
    assert state.tasks == ["pick"]
    assert state.committed == {("lab", "ep0")}


async def test_a_dataset_that_lerobot_recorded_has_no_lines(store: Store, tmp_path: Path) -> None:
    await put_dataset(store, made_dataset(tmp_path))
    await store.delete([PREFIX + layout.PROVENANCE_PATH])

    state = await dataset_state(store, PREFIX)

    assert state is not None
    assert state.committed == frozenset()


async def test_something_else_in_the_place_is_refused(store: Store) -> None:
    await store.put_bytes(b"mine", f"{PREFIX}holiday.jpg")

    with pytest.raises(BadDataset, match=r"datasets/me/stack: is there but is no dataset \(meta/info.json is missing\)"):
        await dataset_state(store, PREFIX)


async def test_a_first_commit_that_was_cut_off_in_a_bucket_is_nothing_yet(s3_store: Store) -> None:
    await s3_store.put_bytes(b"{}", PREFIX + layout.manifest_path(0))
    await s3_store.put_bytes(b"rows", PREFIX + layout.data_path(0))

    assert await dataset_state(s3_store, PREFIX) is None


async def test_an_interrupted_commit_in_a_folder_is_finished_first(file_store: Store, tmp_path: Path) -> None:
    folder = file_store.local_path(PREFIX)
    assert folder is not None
    for seed in range(2):
        make_part(tmp_path / str(seed), seed=seed, num_frames=2)
    commit(tmp_path / "0", folder)
    before = (folder / layout.INFO_PATH).read_bytes()
    commit(tmp_path / "1", folder)
    staged = f"{layout.STATE_FOLDER}/staging/000.staged"
    (folder / staged).parent.mkdir()
    (folder / layout.INFO_PATH).rename(folder / staged)
    (folder / layout.INFO_PATH).write_bytes(before)
    journal = msgspec.json.encode({"moves": [{"staged": staged, "path": layout.INFO_PATH}]})
    (folder / f"{layout.STATE_FOLDER}/journal.json").write_bytes(journal)

    state = await dataset_state(file_store, PREFIX)

    assert state is not None
    assert state.info.total_episodes == 2


def test_only_the_manifest_of_the_first_episode_marks_a_beginning() -> None:
    assert is_beginning({layout.manifest_path(0), "data/x"})
    assert not is_beginning({layout.manifest_path(0), layout.manifest_path(1)})
    assert not is_beginning({"data/x"})
