"""A raw episode goes from the outbox to its place in the store, and can be told from another one of the same name there.

Into a folder of the same file system by one rename, into another one by a copy that appears at once; into a bucket images
first and ``joints/metadata.json`` last. Whoever starts again after any step finds out by that file's nonce how far it came;
where it is known what the store has (``forwarding``), nothing is asked.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.recorder.saving.crew import work_together
from shared.episode import METADATA_FILE
from shared.errors import Refused
from shared.folder_copy import copy_folder, file_sizes
from shared.places import Place
from shared.revision import Revision
from shared.store_file import sync_folder, translated
from shared.store_object import ObjectInfo, Store

METADATA_KEY = f"joints/{METADATA_FILE}"
_IN_FLIGHT = 16
"""Measured: more brings nothing near by, and takes the processor from the arms; 16 carry 400 images a second over a line of 40 ms."""


class _Mark(msgspec.Struct, frozen=True):
    """What tells two recordings apart in ``joints/metadata.json``."""

    nonce: str | None = None


class Progress(msgspec.Struct, kw_only=True):
    """What is known of an episode on its way to a bucket; kept over several tries.

    Attributes:
        sizes: bytes by ``images/{camera}/{name}`` on this host; None: to be looked up.
        sent: the same for what the store has acknowledged, in a place that was empty before; None: the store is asked.
    """

    sizes: Mapping[str, int] | None = None
    sent: dict[str, int] | None = None


async def transfer(store: Store, place: Place, *, raw: Path, nonce: str, progress: Progress | None = None) -> None:
    """Bring a raw episode to its place; what an earlier try has brought stays.

    Args:
        store: opened at the place's root.
        place: the episode's own folder.
        raw: where it lies on this host; it may be gone if an earlier try has moved it.
        nonce: of the recording.
        progress: what is known already; what is sent is added.

    Raises:
        Refused: another episode lies there, this one is gone, or the store does not take it.
        StoreUnavailable, DiskFull: try again later.
    """
    folder = store.local_path(place.prefix)
    if folder is not None and await asyncio.to_thread(_moved, raw, folder):
        return
    if folder is None and progress is not None and progress.sent is not None:
        await _completed(store, place, await _there(raw, place), sizes=progress.sizes, sent=progress.sent)
        return
    found = await store.head(f"{place.prefix}{METADATA_KEY}")
    if found is not None:
        if await _nonce_there(store, place) != nonce:
            raise Refused(f"{place.uri} holds another episode of that name: record under another name, or move that one away")
        return
    await _there(raw, place)
    if folder is not None:
        await asyncio.to_thread(_appeared, raw, folder)
    else:
        await _sent(store, place, raw)


async def revision(store: Store, place: Place) -> str:
    """Return the revision of the episode at ``place``, as the scanner computes it.

    Raises:
        StoreUnavailable, Refused: see ``Store``.
    """
    folder = store.local_path(place.prefix)
    if folder is not None:
        with translated(str(folder)):
            return await asyncio.to_thread(_local_revision, folder)
    growing = Revision()
    async for info in store.list(place.prefix):
        growing.add(info, info.key.removeprefix(place.prefix))
    return growing.text


def _moved(raw: Path, folder: Path) -> bool:
    """Rename the episode to its place; False where that is not possible."""
    with translated(str(folder)):
        if folder.exists() or not raw.is_dir():
            return False
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            raw.rename(folder)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.ENOTEMPTY, errno.EEXIST}:
                return False
            raise
        # The event must never reach the disk of a server before this name is on ours.
        sync_folder(folder.parent)
        sync_folder(raw.parent)
        return True


def _appeared(raw: Path, folder: Path) -> None:
    with translated(str(folder)):
        if folder.exists():
            raise Refused(f"{folder} is there already and is no complete episode: move it away, then start again")
        copy_folder(raw, sizes=file_sizes(raw), folder=folder)


async def _there(raw: Path, place: Place) -> Path:
    if not await asyncio.to_thread(raw.is_dir):
        raise Refused(f"{raw} is gone and {place.uri} does not hold it: was it moved away by hand?")
    return raw


async def _nonce_there(store: Store, place: Place) -> str | None:
    try:
        return msgspec.json.decode(await store.get_bytes(f"{place.prefix}{METADATA_KEY}"), type=_Mark).nonce
    except msgspec.DecodeError:
        return None


def _local_revision(folder: Path) -> str:
    """Return the revision of a folder at once: the store's own listing asks a thread for each of thousands of files."""
    growing = Revision()

    def add_below(path: str, tail: str) -> None:
        with os.scandir(path) as entries:
            # A folder sorts as its content does: with the slash.
            entry_by_name = {f"{entry.name}/" if entry.is_dir() else entry.name: entry for entry in entries}
        for name, entry in sorted(entry_by_name.items()):
            if entry.is_dir():
                add_below(entry.path, tail + name)
            else:
                found = entry.stat()
                growing.add(ObjectInfo(key=tail + name, size_bytes=found.st_size, modified_s=found.st_mtime), tail + name)

    add_below(str(folder), "")
    return growing.text


async def _sent(store: Store, place: Place, raw: Path) -> None:
    """Send an episode to a place of which nothing is known."""
    with translated(str(raw)):
        sizes = await asyncio.to_thread(file_sizes, raw)
    existing = {info.key.removeprefix(place.prefix): info.size_bytes async for info in store.list(place.prefix)}
    foreign = sorted(existing.keys() - sizes.keys())
    if foreign:
        raise Refused(f"{place.uri} holds {foreign[0]}, which is no part of this episode: record under another name, or move it away")
    await _completed(store, place, raw, sizes=sizes, sent=existing)


async def _completed(store: Store, place: Place, raw: Path, *, sizes: Mapping[str, int] | None, sent: dict[str, int]) -> None:
    """Send what is missing: images, then joints, then the file that makes the episode complete."""
    with translated(str(raw)):
        sizes = sizes if sizes is not None else await asyncio.to_thread(file_sizes, raw)
        joints = [f"joints/{name}" for name in sorted(os.listdir(raw / "joints"))]  # noqa: PTH208 - names are all that is needed
    images = {name: size_bytes for name, size_bytes in sizes.items() if name.startswith("images/")}
    superfluous = [name for name in sent if name.startswith("images/") and name not in images]
    await store.delete(f"{place.prefix}{name}" for name in superfluous)  # ours: of an earlier recording of that name
    await _put_all(store, place, raw, names=[name for name, size_bytes in images.items() if sent.get(name) != size_bytes], sent=sent)
    # Few and small, and a size may agree by chance: sent in any case.
    await _put_all(store, place, raw, names=[name for name in joints if name != METADATA_KEY], sent=sent)
    await store.put(raw / METADATA_KEY, f"{place.prefix}{METADATA_KEY}")


async def _put_all(store: Store, place: Place, raw: Path, *, names: list[str], sent: dict[str, int]) -> None:
    waiting = iter(names)

    async def put() -> None:
        for name in waiting:
            await store.put(raw / name, f"{place.prefix}{name}")
            sent[name] = (raw / name).stat().st_size

    await work_together(put, num_workers=min(_IN_FLIGHT, len(names)))
