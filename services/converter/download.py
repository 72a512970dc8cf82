"""Bringing a raw episode to the local disk: what the strategy needs of it, many objects in flight.

A folder store is read in place. Keys become file names here, so only plain names are taken: ``joints/{file}`` and
``images/{camera}/{file}``.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from services.converter.assignment import RawEpisode
from services.converter.files import shown
from shared.config import StrategyConfig
from shared.episode import METADATA_FILE
from shared.errors import BadRaw
from shared.places import Place
from shared.store_object import ObjectInfo, Store

_PLAIN_NAME = re.compile(r"[^/\\\x00-\x1f]{1,200}\Z")


async def local_episode(
    store: Store, place: Place, *, episode_id: str, config: StrategyConfig, folder: Path, batch_size: int
) -> RawEpisode:
    """Return the raw episode at ``place`` as folders of this host.

    Args:
        store: opened at ``place.root``.
        place: the episode's own folder.
        episode_id: its name.
        config: which arms and cameras are needed.
        folder: where to download to; nothing is there yet.
        batch_size: objects in flight at once.

    Raises:
        BadRaw: there is no such episode, or a file's name cannot be a file name here.
        StoreUnavailable, Refused, DiskFull: see ``Store``.
    """
    in_place = store.local_path(place.prefix)
    if in_place is not None:
        if not await asyncio.to_thread(_is_folder, in_place, place.uri):
            raise BadRaw(shown(place.uri), "is not there, expected a raw episode with joints/ and images/")
        roots = (store.local_path("") or in_place,)
        return RawEpisode(episode_id=episode_id, joints=in_place / "joints", images=in_place / "images", roots=roots)
    objects = [found async for found in _needed(store, place, config)]
    if not objects:
        raise BadRaw(place.uri, "is not there, expected a raw episode with joints/ and images/; upload it, then publish it again")
    slots = asyncio.Semaphore(batch_size)

    async def fetch(found: ObjectInfo) -> None:
        async with slots:
            await store.get(found.key, folder / found.key.removeprefix(place.prefix))

    await asyncio.to_thread(_make_folders, folder, objects, place.prefix)
    try:
        async with asyncio.TaskGroup() as group:
            for found in objects:
                group.create_task(fetch(found))
    except BaseExceptionGroup as errors:
        # One cause is enough, and what it is decides whether the episode is tried again.
        raise errors.exceptions[0] from None
    return RawEpisode(episode_id=episode_id, joints=folder / "joints", images=folder / "images")


async def _needed(store: Store, place: Place, config: StrategyConfig) -> AsyncIterator[ObjectInfo]:
    """Yield the objects that the strategy reads; others are left where they are."""
    files = {*(arm.file_name for arm in config.robot.arms), METADATA_FILE}
    cameras = {camera.name for camera in config.cameras}
    async for found in store.list(place.prefix):
        kind, _, rest = found.key.removeprefix(place.prefix).partition("/")
        camera, _, name = rest.partition("/")
        if kind == "joints" and rest in files:
            yield found
        elif kind == "images" and camera in cameras and name:
            if not _PLAIN_NAME.match(name) or name in {".", ".."}:
                raise BadRaw(shown(found.key), "is no plain file name, expected {timestamp}.jpg")
            yield found


def _is_folder(path: Path, uri: str) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise BadRaw(shown(uri), f"cannot be read: {error.strerror}") from error


def _make_folders(folder: Path, objects: list[ObjectInfo], prefix: str) -> None:
    for below in sorted({Path(found.key.removeprefix(prefix)).parent for found in objects}):
        (folder / below).mkdir(parents=True, exist_ok=True)
