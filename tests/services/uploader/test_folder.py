"""A dataset appears in a folder at once, and what a killed uploader left beside it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.uploader.folder import copy_folder, sweep_folder
from services.uploader.plan import INFO
from shared import unfinished
from shared.errors import BadDataset, StoreUnavailable


def put(part: Path) -> dict[str, int]:
    for path in (INFO, "data/a.parquet"):
        (part / path).parent.mkdir(parents=True, exist_ok=True)
        (part / path).write_text("content")
    return {INFO: 7, "data/a.parquet": 7}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_dataset_is_there_whole_and_leftovers_of_the_dead_are_gone_and_of_the_living_are_not(tmp_path: Path) -> None:
    sizes = put(tmp_path / "part")
    target = tmp_path / "store" / "e1"
    (target.parent / ".part-e1-dead" / "data").mkdir(parents=True)
    with unfinished.held(target.parent / ".part-e1-living", Path.mkdir):
        copy_folder(tmp_path / "part", sizes=sizes, folder=target)

        assert names(target.parent) == [".part-e1-living", "e1"]
    assert (target / INFO).read_text() == "content"


def test_a_file_that_changed_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    sizes = put(tmp_path / "part") | {INFO: 8}

    with pytest.raises(StoreUnavailable, match="expected 8 bytes"):
        copy_folder(tmp_path / "part", sizes=sizes, folder=tmp_path / "store" / "e1")
    assert names(tmp_path / "store") == []


def test_a_dataset_without_its_info_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"meta/info\.json is missing"):
        copy_folder(tmp_path, sizes={"data/a.parquet": 1}, folder=tmp_path / "store" / "e1")


def test_unfinished_files_inside_a_target_are_swept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".part-1").touch()
    (tmp_path / "data" / "a.parquet").touch()

    sweep_folder(tmp_path)

    assert names(tmp_path / "data") == ["a.parquet"]
