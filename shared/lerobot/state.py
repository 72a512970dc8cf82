"""What a growing dataset holds, read from a folder or a bucket while others may be committing into it.

Decides what counts: ``meta/info.json`` is what makes an episode part of the dataset, so it is read first, and of every
other file only as much as it speaks of; a commit writes those files before it. Changes nothing, except that a folder's
interrupted commit is finished or undone first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import msgspec

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import recover
from shared.lerobot.info import Info, decoded_info
from shared.lerobot.records import ProvenanceLine, TaskLine, decoded_lines
from shared.store_object import Store

_MAX_BEGINNING_FILES = 1000


class DatasetState(msgspec.Struct, frozen=True, kw_only=True):
    """A growing dataset at one moment.

    Attributes:
        info: its ``meta/info.json``.
        tasks: the instructions in words, by task index.
        lines: which raw episode each episode is; an episode that LeRobot itself recorded has none.
    """

    info: Info
    tasks: list[str]
    lines: tuple[ProvenanceLine, ...]

    @property
    def committed(self) -> frozenset[tuple[str, str]]:
        """Source and episode id of every raw episode that is in."""
        return frozenset((line.source, line.episode_id) for line in self.lines)


async def dataset_state(store: Store, prefix: str) -> DatasetState | None:
    """Return what the dataset below ``prefix`` holds; None if nothing is there yet, or only what its first commit left.

    Args:
        store: where it lies.
        prefix: its folder, empty or with a slash at its end.

    Raises:
        BadDataset: something else lies there, or the dataset is not what LeRobot v2.1 needs.
        StoreUnavailable, Refused: see ``shared.store_object.Store``.
    """
    folder = store.local_path(prefix)
    if folder is not None:
        await asyncio.to_thread(recover, folder)
    content = await found_bytes(store, f"{prefix}{layout.INFO_PATH}")
    place = f"{store.uri}/{prefix}".rstrip("/")
    if content is None:
        if folder is None:
            await beginning(store, prefix)
        elif await asyncio.to_thread(_is_used, folder):
            raise _not_a_dataset(store, prefix)
        return None
    info = decoded_info(content, place=f"{place}/{layout.INFO_PATH}")
    tasks = decoded_lines(await found_bytes(store, f"{prefix}{layout.TASKS_PATH}") or b"", TaskLine, place=f"{place}/{layout.TASKS_PATH}")
    index = await found_bytes(store, f"{prefix}{layout.PROVENANCE_PATH}") or b""
    lines = decoded_lines(index, ProvenanceLine, place=f"{place}/{layout.PROVENANCE_PATH}")
    return DatasetState(
        info=info,
        tasks=[task.task for task in tasks if task.task_index < info.total_tasks],
        lines=tuple(line for line in lines if line.episode_index < info.total_episodes),
    )


async def found_bytes(store: Store, key: str) -> bytes | None:
    """Return a small object's content, or None if there is no such object."""
    return None if await store.head(key) is None else await store.get_bytes(key)


def is_beginning(paths: Collection[str]) -> bool:
    """Return whether files below a dataset's place, without a ``meta/info.json``, are what a first commit left when it was cut off.

    Its manifest is sent before everything else; no other commit can have followed.

    Args:
        paths: relative to the dataset.
    """
    manifests = {path for path in paths if path.startswith("meta/episodeflow/episode_")}
    return manifests == {layout.manifest_path(0)}


async def beginning(store: Store, prefix: str) -> tuple[str, ...]:
    """Return what a first commit that was cut off left where a dataset in a bucket will be, relative to it; mostly nothing.

    Raises:
        BadDataset: something else lies there.
        StoreUnavailable, Refused: see ``shared.store_object.Store``.
    """
    paths: list[str] = []
    async for found in store.list(prefix):
        paths.append(found.key.removeprefix(prefix))
        if len(paths) > _MAX_BEGINNING_FILES:
            break
    if paths and (len(paths) > _MAX_BEGINNING_FILES or not is_beginning(paths)):
        raise _not_a_dataset(store, prefix)
    return tuple(paths)


def _not_a_dataset(store: Store, prefix: str) -> BadDataset:
    place = f"{store.uri}/{prefix}".rstrip("/")
    return BadDataset(f"{place}: is there but is no dataset ({layout.INFO_PATH} is missing): give another name, or remove what is there")


def _is_used(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
