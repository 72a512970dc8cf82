"""A folder appears at its target at once or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StoreUnavailable
from shared.folder_copy import copy_folder, file_sizes


def test_only_the_named_files_appear_and_sizes_are_those_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "part" / "b").mkdir(parents=True)
    (tmp_path / "part" / "b" / "two").write_text("22")
    (tmp_path / "part" / "one").write_text("1")
    sizes = file_sizes(tmp_path / "part")
    copy_folder(tmp_path / "part", sizes={"b/two": 2}, folder=tmp_path / "store" / "deep" / "e1")

    assert sizes == {"b/two": 2, "one": 1}
    assert file_sizes(tmp_path / "store") == {"deep/e1/b/two": 2}


def test_a_file_that_changed_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "one").write_text("1")

    with pytest.raises(StoreUnavailable, match="expected 2 bytes"):
        copy_folder(tmp_path / "part", sizes={"one": 2}, folder=tmp_path / "store" / "e1")
    assert list((tmp_path / "store").iterdir()) == []
