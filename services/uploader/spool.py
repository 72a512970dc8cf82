"""The folder that converters leave datasets in, as the uploader sees it: who works on which, what lies there, what goes.

A dataset goes by one rename, so that nobody ever meets half of one, and is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from services.uploader.plan import MANIFEST
from shared.events import EpisodeReady, Name, Strategy
from shared.store_file import translated

_REMOVED_PREFIX = ".removed-"
_MAX_REMEMBERED = 10_000


class Lying(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in the spool: its folder, whose it is, and its digest."""

    folder: Path
    event: EpisodeReady
    digest: str


class _Origin(msgspec.Struct, frozen=True):
    """What a manifest says about where its dataset belongs."""

    source: Name
    episode_id: Name
    strategy: Strategy
    digest: str


class Spool:
    """One spool.

    Args:
        root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        self._gone: dict[Path, None] = {}

    @asynccontextmanager
    async def holding(self, part: Path) -> AsyncIterator[None]:
        """Let one task at a time work on a dataset."""
        lock = self._locks.setdefault(part, asyncio.Lock())
        async with lock:
            yield

    def sizes(self, part: Path) -> dict[str, int]:
        """Return the bytes of a dataset's files by path; nothing if it is not there.

        Raises:
            Refused: it went away meanwhile, or may not be read.
        """
        with translated(str(part)):
            return {path.relative_to(part).as_posix(): path.stat().st_size for path in sorted(part.rglob("*")) if path.is_file()}

    def remove(self, part: Path) -> None:
        """Remove a dataset that may have gone already, and the empty folders above it.

        Raises:
            StoreUnavailable, Refused: see ``shared.store_file.translated``.
        """
        removed = self.root / f"{_REMOVED_PREFIX}{uuid.uuid4().hex}"
        with translated(str(part)), suppress(FileNotFoundError):
            part.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
        folder = part.parent
        with suppress(OSError):  # another episode lies there
            while folder != self.root:
                folder.rmdir()
                folder = folder.parent
        self._gone[part] = None
        if len(self._gone) > _MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def sweep(self) -> None:
        """Delete what an uploader that was killed had removed and not deleted yet."""
        for removed in self.root.glob(f"{_REMOVED_PREFIX}*"):
            shutil.rmtree(removed, ignore_errors=True)

    def lying(self, *, is_full: bool) -> list[Lying]:
        """Return the datasets that lie in the spool: all that can be read, or only those that came again after they were removed."""
        folders = (manifest.parents[MANIFEST.count("/")] for manifest in self.root.glob(f"[!.]*/*/*/{MANIFEST}"))
        return list(_readable(folders if is_full else list(self._gone)))


def _readable(folders: Iterator[Path] | list[Path]) -> Iterator[Lying]:
    for folder in folders:
        try:
            found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Origin)
        except (OSError, msgspec.DecodeError):
            continue  # not there, gone meanwhile, or not ours
        event = EpisodeReady(source=found.source, episode_id=found.episode_id, strategy=found.strategy)
        yield Lying(folder=folder, event=event, digest=found.digest)
