"""A folder appears whole in a folder store: copied under a hidden name beside its target, then one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from shared import unfinished
from shared.errors import StoreUnavailable
from shared.store_file import sync_folder, translated
from shared.store_object import TEMPORARY_PREFIX


def copy_folder(source: Path, *, sizes: Mapping[str, int], folder: Path) -> None:
    """Let ``folder`` appear with all files at once; the name beside it is new each time, as two copies may overlap.

    What a process that was killed left beside the target is removed first.

    Args:
        source: where the files are.
        sizes: bytes by path of the files that are copied.
        folder: where they go; nothing is there yet.

    Raises:
        StoreUnavailable, DiskFull, Refused: see ``shared.store_file.translated``.
    """
    with translated(str(folder)):
        unfinished.sweep(folder.parent.glob(f"{TEMPORARY_PREFIX}{folder.name}-*"))
        folder.parent.mkdir(parents=True, exist_ok=True)
        hidden = folder.parent / f"{TEMPORARY_PREFIX}{folder.name}-{uuid.uuid4().hex[:12]}"
        with unfinished.held(hidden, Path.mkdir):
            try:
                _fill(hidden, source, sizes)
                hidden.rename(folder)
            except BaseException:
                shutil.rmtree(hidden, ignore_errors=True)
                raise
        sync_folder(folder.parent)


def file_sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of every file below a folder by its path, with forward slashes, sorted.

    Raises:
        OSError: it went away meanwhile, or may not be read.
    """
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


def _fill(hidden: Path, source: Path, sizes: Mapping[str, int]) -> None:
    for path, size_bytes in sizes.items():
        _copy_file(source / path, hidden / path, size_bytes=size_bytes)
    for below in (hidden, *(path for path in hidden.rglob("*") if path.is_dir())):
        sync_folder(below)


def _copy_file(source: Path, target: Path, *, size_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if target.stat().st_size != size_bytes:
        raise StoreUnavailable(f"{target}: expected {size_bytes} bytes: it is copied again")
    with target.open("rb") as opened:
        os.fsync(opened.fileno())
