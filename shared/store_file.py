"""A store in a folder: objects are files, keys are relative paths.

Theory of operation: a file is written under a temporary name in the folder of its final one, synced to the disk,
then renamed over it, and the folder is synced; so a reader sees the old object or the new one, also after a
power cut. Listings skip temporary names. Disk work runs in threads: the event loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from shared import unfinished
from shared.errors import DiskFull, Refused, StoreUnavailable
from shared.store_object import TEMPORARY_PREFIX, ObjectInfo, checked_key, checked_prefix

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


class FileStore:
    """Objects below one folder of this host.

    Args:
        root: absolute; made when the first object is written.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_absolute():
            raise ValueError(f"the root of a file store must be absolute, not {root}")
        self._root = root

    @property
    def uri(self) -> str:
        """``file://`` and the folder."""
        return self._root.as_uri()

    @property
    def notices(self) -> tuple[str, ...]:
        """Nothing to say: a folder needs no corrections."""
        return ()

    def local_path(self, key: str) -> Path:
        """Return where the object lies (or would lie); an empty key is the root.

        Raises:
            Refused: the key leaves the root.
        """
        return self._root / checked_key(key.removesuffix("/")) if key else self._root

    async def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield objects in key order; at most the entries of the open folders are in memory."""
        checked_prefix(prefix)
        after = start_after or ""
        folder = prefix.rpartition("/")[0]
        stack = [iter(await asyncio.to_thread(_entries, self._root, f"{folder}/" if folder else ""))]
        while stack:
            key = next(stack[-1], None)
            if key is None:
                stack.pop()
            elif key.endswith("/"):
                if (key > after or after.startswith(key)) and (key.startswith(prefix) or prefix.startswith(key)):
                    stack.append(iter(await asyncio.to_thread(_entries, self._root, key)))
            elif key > after and key.startswith(prefix):
                info = await asyncio.to_thread(_info, self._root, key)
                if info is not None:
                    yield info

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's entry, or None."""
        checked_key(key)
        return await asyncio.to_thread(_info, self._root, key)

    async def get(self, key: str, path: Path) -> ObjectInfo:
        """Copy the object to ``path``."""
        source = self.local_path(key)
        info = await self.head(key)
        if info is None:
            raise Refused(f"{self.uri}: there is no object {key!r}")
        await asyncio.to_thread(write_file, path, lambda target: _copy(source, target))
        return info

    async def get_bytes(self, key: str) -> bytes:
        """Return the object's content."""
        return await asyncio.to_thread(self._read, key)

    async def put(self, path: Path, key: str) -> None:
        """Copy the file to its place."""
        target = self.local_path(checked_key(key))
        await asyncio.to_thread(write_file, target, lambda opened: _copy(path, opened))

    async def put_bytes(self, body: bytes, key: str) -> None:
        """Write the object."""
        target = self.local_path(checked_key(key))
        await asyncio.to_thread(write_file, target, lambda opened: opened.write(body))

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the files, and the folders that this leaves empty."""
        paths = [self.local_path(checked_key(key)) for key in keys]
        await asyncio.to_thread(_remove, self._root, paths)

    async def delete_prefix(self, prefix: str) -> int:
        """Remove everything that begins with ``prefix``."""
        keys = [info.key async for info in self.list(prefix)]
        await self.delete(keys)
        return len(keys)

    async def clock_s(self) -> float:
        """Return this host's time.

        Raises:
            Refused: the folder does not exist.
        """
        if not await asyncio.to_thread(self._root.is_dir):
            raise Refused(f"the folder {self._root} does not exist: create it, mount it, or correct the URI {self.uri} in the storage file")
        return time.time()

    async def close(self) -> None:
        """Nothing is open between two calls."""

    def _read(self, key: str) -> bytes:
        with translated(f"{self.uri}: {key}"):
            return self.local_path(checked_key(key)).read_bytes()


def write_file(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Write a file that appears whole or not at all, and stays after a power cut.

    Args:
        path: where it goes; missing folders are made.
        fill: writes the content into the open file.

    Raises:
        DiskFull, Refused, StoreUnavailable: see ``translated``.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    with translated(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.held(temporary, lambda made: made.touch(exist_ok=False)), temporary.open("wb") as opened:
                fill(opened)
                opened.flush()
                os.fsync(opened.fileno())
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into an error of ours.

    Args:
        what: the file, for the sentence.

    Raises:
        DiskFull: no room or quota.
        Refused: not there, or permissions.
        StoreUnavailable: anything else a disk can say.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(f"{what}: the disk is full ({error.strerror}): make room; the work goes on by itself") from error
        if error.errno in _ABSENT:
            raise Refused(f"{what}: there is no such file ({error.filename})") from error
        if error.errno in _DENIED:
            raise Refused(f"{what}: {error.strerror}: give the service's user access to {error.filename}") from error
        raise StoreUnavailable(f"{what}: {error}") from error


def _copy(source: Path, target: BinaryIO) -> None:
    with source.open("rb") as opened:
        shutil.copyfileobj(opened, target, 1024 * 1024)


def _entries(root: Path, folder: str) -> list[str]:
    """Return the keys in one folder in key order; folders end with a slash, because that is how their content sorts."""
    path = root / folder if folder else root
    keys = []
    with translated(str(path)):
        try:
            scanned = os.scandir(path)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with scanned:
            for entry in scanned:
                if entry.name.startswith(TEMPORARY_PREFIX) or not entry.name.isprintable():
                    continue
                is_folder = entry.is_dir() and not (entry.is_symlink() and _is_loop(path, entry.name))
                if is_folder or entry.is_file():
                    keys.append(f"{folder}{entry.name}{'/' if is_folder else ''}")
    return sorted(keys)


def _is_loop(folder: Path, name: str) -> bool:
    """Return whether a link leads back to a folder that it lies in."""
    return folder.resolve().is_relative_to((folder / name).resolve())


def _info(root: Path, key: str) -> ObjectInfo | None:
    path = root / key
    with translated(str(path)):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(key=key, size_bytes=found.st_size, modified_s=found.st_mtime) if path.is_file() else None


def _remove(root: Path, paths: list[Path]) -> None:
    for path in paths:
        with translated(str(path)):
            path.unlink(missing_ok=True)
    for folder in sorted({path.parent for path in paths}, key=lambda folder: len(folder.parts), reverse=True):
        _remove_empty(root, folder)


def _remove_empty(root: Path, folder: Path) -> None:
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            return  # not empty, or somebody was faster: either way nothing is left to do
        folder = folder.parent
