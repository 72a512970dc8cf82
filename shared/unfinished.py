"""Work in progress below a folder store: held while its process lives, swept by whoever comes later.

A file or folder whose name begins with ``TEMPORARY_PREFIX`` belongs to the process that holds its lock. The operating
system lets go of the lock of a dead process, so what can be locked is garbage; no clock has to be believed. On a file
system without locks nothing is swept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.store_object import TEMPORARY_PREFIX


@contextmanager
def held(path: Path, make: Callable[[Path], object]) -> Iterator[None]:
    """Make a temporary file or folder, and hold it inside the block.

    Args:
        path: where; nothing is there yet.
        make: makes it.

    Raises:
        OSError: it cannot be made.
    """
    descriptor = _made(path, make)
    try:
        yield
    finally:
        os.close(descriptor)


def sweep(paths: Iterable[Path]) -> int:
    """Remove those of the temporary files and folders that nobody holds, and return how many.

    Raises:
        ValueError: a path is no temporary one.
    """
    num_removed = 0
    for path in paths:
        if not path.name.startswith(TEMPORARY_PREFIX):
            raise ValueError(f"{path} is not temporary")
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue  # gone meanwhile, or somebody else's
        try:
            if _locked(descriptor):
                _remove(path)
                num_removed += 1
        finally:
            os.close(descriptor)
    return num_removed


def _made(path: Path, make: Callable[[Path], object]) -> int:
    while True:
        make(path)
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue  # a sweep came in before the lock
        _locked(descriptor)
        if path.exists():
            return descriptor
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
