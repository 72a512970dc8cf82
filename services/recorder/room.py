"""Is there room for what shall be recorded? Asked before recording, so that no disk is full during it."""

from __future__ import annotations

import shutil
from pathlib import Path

from shared.errors import DiskFull
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
