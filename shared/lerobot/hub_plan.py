"""What a push sends and in which order, so that the Hub never shows a ``meta/info.json`` ahead of the files it speaks of.

Knows names and sizes only. Small commits are what the Hub takes reliably: it answers a commit of thousands of files with
a time-out. So videos go first, then tables, then the metadata of single episodes, each in commits of limited size; the last
commit brings the files that speak of all episodes, ``meta/info.json`` among them, and removes what is no longer part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

import msgspec

from shared.lerobot.card import CARD_PATH

MAX_FILES_PER_FOLDER = 10_000
"""The Hub refuses a folder with more."""

_CLEANED = ("data/", "videos/", "meta/")
"""Only below these a remote file that the dataset does not have is removed; everything else was put there by somebody."""


class Commit(msgspec.Struct, frozen=True):
    """One commit: files to add, and to remove."""

    additions: tuple[str, ...]
    deletions: tuple[str, ...] = ()


def stale_paths(remote: Iterable[str], local: Collection[str]) -> list[str]:
    """Return the remote files that a dataset of the files ``local`` no longer has."""
    return sorted(path for path in remote if path.startswith(_CLEANED) and path not in local)


def commits(size_bytes_by_path: Mapping[str, int], deletions: Collection[str], *, max_files: int, max_bytes: int) -> list[Commit]:
    """Return the commits that bring the files, in order; none if there is nothing to add or remove.

    A commit has at most ``max_files`` files and, unless it is one file, ``max_bytes``. The last one may have more: it holds
    all files that speak of the whole dataset, which are few.
    """
    paths = sorted(size_bytes_by_path, key=lambda path: (_rank(path), path))
    last = tuple(path for path in paths if _rank(path) == _LAST)
    found: list[list[str]] = [[]]
    num_bytes = 0
    for path in paths[: len(paths) - len(last)]:
        if found[-1] and (len(found[-1]) == max_files or num_bytes + size_bytes_by_path[path] > max_bytes):
            found.append([])
            num_bytes = 0
        found[-1].append(path)
        num_bytes += size_bytes_by_path[path]
    if len(found[-1]) + len(last) <= max_files and num_bytes + sum(size_bytes_by_path[path] for path in last) <= max_bytes:
        last = (*found.pop(), *last)
    ending = [Commit(last, tuple(sorted(deletions)))] if last or deletions else []
    return [Commit(tuple(paths)) for paths in found if paths] + ending


def crowded_folder(paths: Iterable[str]) -> tuple[str, int] | None:
    """Return a folder with more files than the Hub takes, and how many it holds; None if there is none."""
    counts = Counter(str(PurePosixPath(path).parent) for path in paths)
    folder, num_files = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return (folder, num_files) if num_files > MAX_FILES_PER_FOLDER else None


_LAST = 4


def _rank(path: str) -> int:
    if path.startswith("videos/"):
        return 0
    if path.startswith("data/"):
        return 1
    parts = PurePosixPath(path).parts
    if parts[0] == "meta" and len(parts) > 2:
        return 2
    return _LAST if parts[0] == "meta" or path == CARD_PATH else 3
