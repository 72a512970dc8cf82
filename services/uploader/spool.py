"""The folder that converters leave datasets in, as the uploader sees it: who works on which, what lies there, what goes.

A dataset goes by one rename, so that nobody ever meets half of one, and is deleted afterwards.
"""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec

from services.uploader.plan import MANIFEST
from shared.events import DatasetName, EpisodeReady, Name, Strategy
from shared.store_file import translated, write_file

_REMOVED_PREFIX = ".removed-"
_DATASETS = ".datasets.json"
_MAX_REMEMBERED = 10_000


class Lying(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset in the spool: its folder, whose it is (with the growing dataset, if it is known that it came for one), its digest."""

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
        self._datasets: frozenset[str] = frozenset()
        self._locks: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
        self._gone: dict[Path, str | None] = {}

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

    def remove(self, part: Path, *, dataset: str | None = None) -> None:
        """Remove a dataset that may have gone already, and the empty folders above it.

        Args:
            part: its folder.
            dataset: the growing dataset that took it, to be looked into if the folder comes again.

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
        self._gone[part] = dataset
        if len(self._gone) > _MAX_REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def feeds(self, dataset: str) -> None:
        """Remember, beyond the end of this process, that parts of this spool go into a growing dataset.

        Raises:
            DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        if dataset not in self._datasets:
            self._datasets = self.datasets() | {dataset}
            write_file(self.root / _DATASETS, lambda opened: opened.write(msgspec.json.encode(sorted(self._datasets))))

    def datasets(self) -> frozenset[str]:
        """Return the growing datasets that parts of this spool have gone into."""
        try:
            return frozenset(msgspec.json.decode((self.root / _DATASETS).read_bytes(), type=list[DatasetName]))
        except (OSError, msgspec.DecodeError):
            return frozenset()  # none yet; what cannot be read only costs room in the spool

    def sweep(self) -> None:
        """Delete what an uploader that was killed had removed and not deleted yet."""
        for removed in self.root.glob(f"{_REMOVED_PREFIX}*"):
            shutil.rmtree(removed, ignore_errors=True)

    def lying(self, *, is_full: bool) -> list[Lying]:
        """Return the datasets that lie in the spool: all that can be read, or only those that came again after they were removed."""
        folders = (manifest.parents[MANIFEST.count("/")] for manifest in self.root.glob(f"[!.]*/*/*/{MANIFEST}"))
        return list(_readable(folders if is_full else list(self._gone), self._gone))


def _readable(folders: Iterator[Path] | list[Path], dataset_by_folder: Mapping[Path, str | None]) -> Iterator[Lying]:
    for folder in folders:
        try:
            found = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=_Origin)
        except (OSError, msgspec.DecodeError):
            continue  # not there, gone meanwhile, or not ours
        event = EpisodeReady(
            source=found.source, episode_id=found.episode_id, strategy=found.strategy, dataset=dataset_by_folder.get(folder)
        )
        yield Lying(folder=folder, event=event, digest=found.digest)
