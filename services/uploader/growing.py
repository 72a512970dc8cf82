"""Growing datasets: a part of the spool becomes the next episode of the dataset that its event names.

Decides nothing about formats: a folder grows by ``shared.lerobot.commit``, a bucket by ``services.uploader.bucket``, and
both while the dataset's lease is held, so that uploaders of all hosts take turns.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from services.uploader.bucket import BucketDataset
from services.uploader.waiting import completed
from shared import unfinished
from shared.events import EpisodeReady
from shared.leases import Lease, Leases
from shared.lerobot.commit import Committed, commit
from shared.lerobot.state import dataset_state
from shared.places import Place, Places
from shared.store import Store, StorePool
from shared.store_file import translated
from shared.store_object import TEMPORARY_PREFIX

_MIRRORS_PREFIX = f"{TEMPORARY_PREFIX}mirrors-"


class Arrival(msgspec.Struct, frozen=True):
    """Where an episode is: the URI of its dataset, and its number there (None: it is a dataset of its own)."""

    uri: str
    episode_index: int | None = None


class GrowingDatasets:
    """Commits parts into growing datasets; use it as a context, so that nothing stays behind on the disk.

    Args:
        stores: opens the datasets' roots.
        places: where datasets are.
        leases: whose turn it is.
        folder: below it the metadata of datasets in buckets is mirrored.
        parallel_uploads: files in flight at once, for one episode.
    """

    def __init__(self, *, stores: StorePool, places: Places, leases: Leases, folder: Path, parallel_uploads: int) -> None:
        self._stores = stores
        self._places = places
        self._leases = leases
        self._folder = folder
        self._parallel_uploads = parallel_uploads
        self._closing = AsyncExitStack()
        self._mirrors: Path | None = None
        self._buckets: dict[str, BucketDataset] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._closing.aclose()

    async def committed(self, name: str, part: Path) -> Arrival:
        """Append the part in a folder to the dataset ``name``; an episode that is in changes nothing.

        Raises:
            BadDataset: the part does not fit, is in with another digest, or something else lies at the dataset's place.
            BadConfig: the dataset has no place.
            DatasetBusy, BusUnavailable: the lease was not given, or was lost; nothing is torn.
            StoreUnavailable, Refused, DiskFull: see ``shared.store_object.Store``.
        """
        place = self._places.dataset(name)
        store = await self._stores.at(place.root)
        async with self._leases.holding(name) as lease:
            folder = store.local_path(place.prefix)
            if folder is None:
                done = await (await self._bucket(store, place)).commit(part, lease)
            else:
                # The thread cannot be cancelled: the lease is given up when it has ended.
                done = await completed(asyncio.to_thread(_committed, part, folder, lease))
        return Arrival(place.uri, done.episode_index)

    async def found(self, name: str, episode: EpisodeReady, *, digest: str) -> Arrival | None:
        """Return where an episode is in the dataset ``name``, or None if it is not in with this digest.

        Raises:
            BadDataset, BadConfig, StoreUnavailable, Refused: as ``committed``.
        """
        place = self._places.dataset(name)
        state = await dataset_state(await self._stores.at(place.root), place.prefix)
        wanted = (episode.source, episode.episode_id, episode.strategy, digest)
        for line in state.lines if state else ():
            if (line.source, line.episode_id, line.strategy, line.digest) == wanted:
                return Arrival(place.uri, line.episode_index)
        return None

    async def _bucket(self, store: Store, place: Place) -> BucketDataset:
        if place.uri not in self._buckets:
            mirror = await self._mirror_folder() / hashlib.sha256(place.uri.encode()).hexdigest()[:16]
            self._buckets[place.uri] = BucketDataset(store, place.prefix, mirror=mirror, parallel_uploads=self._parallel_uploads)
        return self._buckets[place.uri]

    async def _mirror_folder(self) -> Path:
        """Return the folder of mirrors that this process alone holds; those of dead processes are removed first."""
        if self._mirrors is None:
            self._mirrors = self._folder / f"{_MIRRORS_PREFIX}{uuid.uuid4().hex[:12]}"
            await asyncio.to_thread(self._made, self._mirrors)
        return self._mirrors

    def _made(self, mirrors: Path) -> None:
        with translated(str(mirrors)):
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished.sweep(self._folder.glob(f"{_MIRRORS_PREFIX}*"))
            self._closing.enter_context(unfinished.held(mirrors, Path.mkdir))
            self._closing.callback(shutil.rmtree, mirrors, ignore_errors=True)


def _committed(part: Path, folder: Path, lease: Lease) -> Committed:
    return commit(part, folder, before_certain=lease.check)
