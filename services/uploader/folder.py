"""A dataset appears in a folder store whole, and what killed uploaders left there goes."""

from __future__ import annotations

from pathlib import Path

from services.uploader.plan import INFO
from shared import folder_copy, unfinished
from shared.errors import BadDataset
from shared.store_file import translated
from shared.store_object import TEMPORARY_PREFIX


def copy_folder(part: Path, *, sizes: dict[str, int], folder: Path) -> None:
    """Let ``folder`` appear with all files at once.

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
    folder_copy.copy_folder(part, sizes=sizes, folder=folder)


def sweep_folder(folder: Path) -> None:
    """Remove the unfinished files that an uploader that was killed left in a target."""
    with translated(str(folder)):
        unfinished.sweep(sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")))
