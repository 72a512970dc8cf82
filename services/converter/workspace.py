"""Folders that belong to one process: what it was working on is swept away by the next one, if it died.

A workspace is a folder with a lock held for as long as the process lives. The operating system lets go of the lock of a
dead process, so a folder whose lock can be taken is garbage; no clock and no process id has to be believed.
"""

from __future__ import annotations

import fcntl
import shutil
import uuid
from pathlib import Path
from types import TracebackType

_LOCK = "lock"
_SWEPT = ".swept"


class Workspace:
    """A folder below ``root`` for this process alone; on entering, those of dead processes are removed.

    Args:
        root: where workspaces are; it is created.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / uuid.uuid4().hex

    def __enter__(self) -> Workspace:
        self._root.mkdir(parents=True, exist_ok=True)
        for folder in self._root.iterdir():
            _sweep(folder)
        # Made under another name, so that a sweep of another process never sees it without its lock.
        draft = self._folder.with_suffix(".draft")
        draft.mkdir()
        self._lock = (draft / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self._folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()

    def new_folder(self) -> Path:
        """Return a path below the workspace at which nothing is yet."""
        return self._folder / uuid.uuid4().hex


def _sweep(folder: Path) -> None:
    if folder.suffix == _SWEPT:
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        lock = (folder / _LOCK).open("r+")
    except OSError:
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A process of the dead owner may still write here for a moment; under another name it finds nothing any more.
            swept = folder.rename(folder.with_suffix(_SWEPT))
        except OSError:
            return  # its owner lives, or somebody else sweeps
        shutil.rmtree(swept, ignore_errors=True)
