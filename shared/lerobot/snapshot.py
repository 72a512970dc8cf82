"""One consistent state of a dataset's folder, held still while it is being read out: for a push that takes minutes.

Decides which files belong to a dataset, and that all that ``meta/info.json`` names are there. A commit only ever adds
files below ``data/`` and ``videos/`` and replaces those below ``meta/`` by renames; so the list of files is taken, and
``meta/`` gets second names, while no commit can run. Whatever is committed afterwards is not part of the snapshot.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import recover
from shared.lerobot.disk import Disk, locked, translated
from shared.lerobot.info import Info, read_info

_LOCK = f"{layout.STATE_FOLDER}/lock"
_JOURNAL = f"{layout.STATE_FOLDER}/journal.json"
_OWN_LOCK = f"{layout.STATE_FOLDER}/snapshot.lock"
_LINKS = f"{layout.STATE_FOLDER}/snapshot"
_TEMPORARY_IMAGES = "images/"
"""LeRobot's writer leaves its PNGs here; they are no part of a dataset."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset at one moment.

    Attributes:
        info: its ``meta/info.json``.
        files: where to read each file's content, by path relative to the dataset, in order.
    """

    info: Info
    files: dict[str, Path]


@contextmanager
def snapshot(folder: Path) -> Iterator[Snapshot]:
    """Give the state of the dataset in ``folder`` for the block; an interrupted commit is finished or undone first.

    Snapshots of the same folder wait for each other; commits only wait while this one is being taken.

    Raises:
        BadDataset: the folder holds no LeRobot v2.1 dataset, none with an episode, or a file of it is missing.
        DiskFull: no room for the second names.
    """
    folder = folder.absolute()
    read_info(folder)
    disk = Disk(is_durable=False)
    disk.make_folder(folder / layout.STATE_FOLDER)
    with locked(folder / _OWN_LOCK):
        disk.remove_folder(folder / _LINKS)  # of a process that was killed
        try:
            yield _taken(folder)
        finally:
            disk.remove_folder(folder / _LINKS)


def _taken(folder: Path) -> Snapshot:
    while True:
        recover(folder)
        with locked(folder / _LOCK):
            if (folder / _JOURNAL).exists():
                continue  # between the two, another commit was cut off
            info = read_info(folder)
            names = dataset_files(folder)
            _check_complete(folder, names, info)
            return Snapshot(info=info, files={name: _held(folder, name) for name in names})


def dataset_files(folder: Path) -> list[str]:
    """Return the paths of a dataset's files relative to its folder, sorted, without hidden ones and LeRobot's temporary images."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(Path(place) / name).relative_to(folder).as_posix() for name in files if not name.startswith(".")]
    return sorted(name for name in found if not name.startswith(_TEMPORARY_IMAGES))


def _check_complete(folder: Path, names: Collection[str], info: Info) -> None:
    if info.total_episodes < 1:
        raise BadDataset(f"{folder}: has no episode yet: record or convert one first")
    episodes = range(info.total_episodes)
    tables = {info.data_file(index) for index in episodes}
    expected = {layout.EPISODES_PATH, layout.TASKS_PATH, layout.STATS_PATH, *tables}
    expected |= {info.video_file(key, index) for key in info.video_keys for index in episodes}
    if missing := sorted(expected.difference(names)):
        raise BadDataset(
            f"{folder}: {missing[0]} is missing ({len(missing)} of {len(expected)} files of {info.total_episodes} episodes): "
            "episodeflow check names them all; restore them, or convert again"
        )
    if strays := sorted(name for name in names if name.startswith("data/") and name not in tables):
        raise BadDataset(f"{folder}: {strays[0]} is none of its {info.total_episodes} episodes, and LeRobot would read it: move it away")


def _held(folder: Path, name: str) -> Path:
    """Return where a file's present content stays readable: a commit renames a new file over one below ``meta/``."""
    path = folder / name
    if not name.startswith("meta/"):
        return path
    held = folder / _LINKS / name
    with translated(held):
        held.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, held)
        except OSError:  # a file system without links
            shutil.copyfile(path, held)
    return held
