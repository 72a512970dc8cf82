"""The bytes of an episode's images, counted while it is recorded, so that its end does not wait for thousands of files."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from shared.store_object import TEMPORARY_PREFIX


class ImageSizes:
    """What the images of the episodes at hand take. May be asked from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._size_by_image: dict[str, dict[str, int]] = {}

    def count(self, episode_id: str, images: Path, *, settled_s: float = 0.0) -> int:
        """Return the bytes of an episode's images; only those that are new since the last time are looked at.

        Args:
            episode_id: whose they are.
            images: where they are now, ``{camera}/{name}`` below it; the folder may move, or be gone, meanwhile.
            settled_s: leave out what was written within so many seconds: it may still be growing.
        """
        with self._lock:
            sizes = self._size_by_image.setdefault(episode_id, {})
            with suppress(FileNotFoundError, NotADirectoryError):
                for camera in os.listdir(images):  # noqa: PTH208 - names are all that is needed
                    _count_new(f"{images}/{camera}", camera, sizes, latest_s=time.time() - settled_s if settled_s else math.inf)
            return sum(sizes.values())

    def of(self, episode_id: str) -> dict[str, int]:
        """Return the bytes by ``{camera}/{name}`` that have been counted of an episode."""
        with self._lock:
            return dict(self._size_by_image.get(episode_id, {}))

    def forget_all_but(self, episode_ids: Collection[str]) -> None:
        """Let go of the episodes that are saved or were discarded."""
        with self._lock:
            self._size_by_image = {name: sizes for name, sizes in self._size_by_image.items() if name in episode_ids}


def _count_new(folder: str, camera: str, sizes: dict[str, int], *, latest_s: float) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            key = f"{camera}/{entry.name}"
            if not entry.name.startswith(TEMPORARY_PREFIX) and key not in sizes and (found := entry.stat()).st_mtime <= latest_s:
                sizes[key] = found.st_size
