"""The door to the file system for commits: each step is one method, durable when it returns.

A test gives commits a disk that dies at a chosen step; that is why every change to a dataset goes through here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from shared.errors import BadDataset, DiskFull

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES)
"""Why a hard link is refused where a copy works: another file system, or one without links."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` on ``path`` into the error tree.

    Raises:
        DiskFull: no space or no quota left.
        BadDataset: any other refusal of the file system.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(f"{path}: cannot be written, the disk is full: make room, nothing of the dataset has changed") from error
        raise BadDataset(f"{path}: cannot be written ({error.strerror}): check that the dataset's folder belongs to this user") from error


class Disk:
    """Steps on files and folders, each on the disk when it returns.

    Args:
        is_durable: False for files that somebody else makes durable before anybody relies on them.
    """

    def __init__(self, *, is_durable: bool = True) -> None:
        self._is_durable = is_durable

    def make_folder(self, path: Path) -> None:
        """Create a folder with its parents; an existing one is fine."""
        with translated(path):
            path.mkdir(parents=True, exist_ok=True)

    def write(self, path: Path, content: bytes) -> None:
        """Write a new file and bring it to the disk."""
        with translated(path), path.open("wb") as file:
            file.write(content)
            file.flush()
            if self._is_durable:
                os.fsync(file.fileno())

    def extend_lines(self, source: Path, target: Path, tail: bytes) -> None:
        """Write ``target`` as a copy of ``source`` (nothing, if there is none) with the lines in ``tail`` after it."""
        with translated(target), target.open("w+b") as file:
            if source.exists():
                with source.open("rb") as original:
                    shutil.copyfileobj(original, file, 1 << 20)
            if _lacks_newline(file):
                file.write(b"\n")
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())

    def link(self, source: Path, target: Path) -> None:
        """Give ``source``'s content the second name ``target``: a hard link, or a copy where none is possible."""
        with translated(target):
            try:
                os.link(source, target)
            except OSError as error:
                if error.errno not in _NO_LINK:
                    raise
                shutil.copyfile(source, target)
            _sync(target)

    def rename(self, source: Path, target: Path) -> None:
        """Move a file or folder over ``target`` atomically."""
        with translated(target):
            source.replace(target)

    def sync_folder(self, path: Path) -> None:
        """Bring a folder's names to the disk."""
        with translated(path):
            _sync(path)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        with translated(path):
            path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with everything below it; a missing one is fine."""
        with translated(path), suppress(FileNotFoundError):
            shutil.rmtree(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the operating system's lock on a file (made if absent) or folder; wait while another process holds it.

    Waiting is right because a commit takes well under a second and the lock dies with its holder, so that nobody
    waits for a process that is gone.
    """
    with translated(path):
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lacks_newline(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
