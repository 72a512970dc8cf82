"""Is there room for what shall be recorded, and may the dataset be written? Asked before recording, not found out after it."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from shared.errors import DiskFull, Refused
from shared.store_file import translated

_MB = 1_000_000


def check_room(folder: Path, *, needed_bytes: int) -> int:
    """Return the free bytes of the disk that ``folder`` lies on.

    Args:
        folder: the recorder's folder; it need not exist yet.
        needed_bytes: what the next episode may take.

    Raises:
        DiskFull: less is free than needed; the sentence has both numbers, the folder and what to do.
        Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    with translated(str(folder)):
        free_bytes = shutil.disk_usage(there).free
    if free_bytes < needed_bytes:
        raise DiskFull(
            f"{folder}: {free_bytes // _MB} MB are free and an episode may take {-(-needed_bytes // _MB)} MB: make room, "
            "let waiting episodes be delivered, record shorter episodes, or choose a folder on another disk"
        )
    return free_bytes


def check_writable(folder: Path) -> None:
    """Make sure that a dataset can be written into a folder; the folder above is made, its own one is not.

    Args:
        folder: the dataset's; it need not exist yet.

    Raises:
        Refused: it is a file, or it cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is a file")
        probe = (folder if folder.is_dir() else folder.parent) / f".episodeflow-probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        raise Refused(
            f"{folder}: the dataset cannot be written there: {error}; "
            "choose another folder with --dataset.root or HF_LEROBOT_HOME, or make this one writable"
        ) from error
