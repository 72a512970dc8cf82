"""A dataset appears in a folder store: copied under a hidden name beside its target, then one rename."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from services.uploader.plan import INFO
from shared import unfinished
from shared.errors import BadDataset, StoreUnavailable
from shared.store_file import sync_folder, translated
from shared.store_object import TEMPORARY_PREFIX


def copy_folder(part: Path, *, sizes: dict[str, int], folder: Path) -> None:
    """Let ``folder`` appear with all files at once; the name beside it is new each time, as two deliveries may overlap.

    What an uploader that was killed left beside the target is removed first.

    Args:
        part: the dataset.
        sizes: bytes by path of its files.
        folder: where it goes; nothing is there yet.

    Raises:
        BadDataset: the dataset has no ``meta/info.json``.
        StoreUnavailable, DiskFull, Refused: see ``shared.store_file.translated``.
    """
    if INFO not in sizes:
        raise BadDataset(f"{part / INFO} is missing: publish episode.ready again to convert the episode anew")
    with translated(str(folder)):
        unfinished.sweep(folder.parent.glob(f"{TEMPORARY_PREFIX}{folder.name}-*"))
        folder.parent.mkdir(parents=True, exist_ok=True)
        hidden = folder.parent / f"{TEMPORARY_PREFIX}{folder.name}-{uuid.uuid4().hex[:12]}"
        with unfinished.held(hidden, Path.mkdir):
            try:
                _fill(hidden, part, sizes)
                hidden.rename(folder)
            except BaseException:
                shutil.rmtree(hidden, ignore_errors=True)
                raise
        sync_folder(folder.parent)


def sweep_folder(folder: Path) -> None:
    """Remove the unfinished files that an uploader that was killed left in a target."""
    with translated(str(folder)):
        unfinished.sweep(sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")))


def _fill(hidden: Path, part: Path, sizes: dict[str, int]) -> None:
    for path, size_bytes in sizes.items():
        _copy_file(part / path, hidden / path, size_bytes=size_bytes)
    for below in (hidden, *(path for path in hidden.rglob("*") if path.is_dir())):
        sync_folder(below)


def _copy_file(source: Path, target: Path, *, size_bytes: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    if target.stat().st_size != size_bytes:
        raise StoreUnavailable(f"{target}: expected {size_bytes} bytes: it is copied again")
    with target.open("rb") as opened:
        os.fsync(opened.fileno())
