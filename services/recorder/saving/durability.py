"""Making files survive a power cut: the whole file system at once where the kernel can, else file by file.

A raw episode has thousands of small files. One ``syncfs`` (Linux) costs what has not been written yet; an ``fsync`` for
each file costs a turn of the disk each. Called every two seconds while an episode is recorded, it leaves little for its end.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

from shared.store_file import sync_folder


class FileSystem:
    """The file system that a folder lies on. Close it.

    Args:
        folder: kept open, because the kernel reports a failed write once to each open file.

    Raises:
        OSError: the folder is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY)
        self._sync_all = _syncfs()
        self._earlier: OSError | None = None

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._descriptor)

    def sync_ahead(self) -> None:
        """Write what is there, so that less is left for ``sync``; what goes wrong is raised there."""
        if self._sync_all is None:
            return
        try:
            self._sync_all(self._descriptor)
        except OSError as error:
            self._earlier = error

    def sync(self, folder: Path) -> None:
        """Return once every file below ``folder`` is on the disk.

        Raises:
            OSError: something could not be written, now or by an earlier ``sync_ahead``.
        """
        earlier, self._earlier = self._earlier, None
        if earlier is not None:
            raise earlier
        if self._sync_all is None:
            sync_each(folder)
        else:
            self._sync_all(self._descriptor)


def sync_each(folder: Path) -> None:
    """Write every file and folder below ``folder`` to the disk, one by one.

    Raises:
        OSError: one could not be written.
    """
    for below, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(f"{below}/{name}", os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(below))


def _syncfs() -> Callable[[int], None] | None:
    """Return the system call that writes a whole file system, or None where there is none."""
    if sys.platform != "linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return None

    def sync(descriptor: int) -> None:
        if call(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return sync
