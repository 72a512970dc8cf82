"""Temporary files belong to whoever holds them; what a dead process left can go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared import unfinished
from shared.store_object import TEMPORARY_PREFIX

HOLDER = """
import sys
from pathlib import Path
from shared import unfinished

with unfinished.held(Path(sys.argv[1]), Path.mkdir):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_what_a_living_process_holds_stays_and_goes_once_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / f"{TEMPORARY_PREFIX}a"
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        num_of_living = unfinished.sweep([folder])
        holder.kill()
        holder.wait()
    num_of_dead = unfinished.sweep([folder])

    assert (num_of_living, num_of_dead) == (0, 1)
    assert not folder.exists()


def test_files_and_folders_are_swept_and_what_is_gone_is_no_matter(tmp_path: Path) -> None:
    file, folder, gone = (tmp_path / f"{TEMPORARY_PREFIX}{name}" for name in ("file", "folder", "gone"))
    file.touch()
    (folder / "below").mkdir(parents=True)

    assert unfinished.sweep([file, folder, gone]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_swept_before_it_was_locked_is_made_again(tmp_path: Path) -> None:
    path, made = tmp_path / f"{TEMPORARY_PREFIX}a", list[Path]()

    def make(wanted: Path) -> None:
        made.append(wanted)
        if len(made) > 1:
            wanted.touch()

    with unfinished.held(path, make):
        assert path.exists()
    assert len(made) == 2


def test_only_temporary_names_are_ever_swept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not temporary"):
        unfinished.sweep([tmp_path / "episode_0001"])
