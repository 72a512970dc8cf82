"""A growing dataset in a bucket: commits under a lease, certain from ``meta/info.json`` on.

A commit that is cut off anywhere before that leaves files that the dataset does not speak of; the next one has the same
number and puts its own in their place. Whoever calls holds the dataset's lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from services.uploader.mirror import MIRRORED, Growth, Sending, adopt, growth
from services.uploader.waiting import completed, together, while_held
from shared.errors import BadDataset, StoreUnavailable
from shared.leases import Lease
from shared.lerobot import layout
from shared.lerobot.commit import Committed
from shared.lerobot.info import decoded_info
from shared.lerobot.state import beginning
from shared.store import ObjectInfo, Store


class BucketDataset:
    """One dataset below a prefix of a store, with a mirror of its metadata, so that a commit fetches what others changed only.

    Args:
        store: where it lies.
        prefix: its folder, with a slash at its end.
        mirror: a folder of this process alone.
        parallel_uploads: files in flight at once.
    """

    def __init__(self, store: Store, prefix: str, *, mirror: Path, parallel_uploads: int) -> None:
        self._store = store
        self._prefix = prefix
        self._mirror = mirror
        self._parallel_uploads = parallel_uploads
        self._etags: dict[str, str] = {}
        self._sent_etags: dict[str, str] = {}

    async def commit(self, part: Path, lease: Lease) -> Committed:
        """Append a part; an episode that is in changes nothing.

        Args:
            part: folder of a one-episode dataset.
            lease: on the dataset. Without it nothing more is sent: what comes late could overwrite what the next holder sends.

        Raises:
            BadDataset: the part does not fit, is in with another digest, or something else lies at the dataset's place.
            DatasetBusy: the lease was lost before the commit became visible.
            StoreUnavailable, Refused, DiskFull: see ``shared.store_object.Store``.
        """
        return await while_held(lease, self._committed(part, lease))

    async def _committed(self, part: Path, lease: Lease) -> Committed:
        remote_bytes = await self._mirrored()
        left = () if layout.INFO_PATH in remote_bytes else await beginning(self._store, self._prefix)
        grown = await completed(asyncio.to_thread(growth, part, self._mirror, remote_bytes=remote_bytes))
        if grown.phases:
            await self._check_neighbours(grown)
            *early, visible, certain = grown.phases
            for phase in early:
                await self._sent(phase)
                await self._store.delete(f"{self._prefix}{path}" for path in left if path not in grown.paths)
                left = ()
            lease.check()
            await completed(while_held(lease, self._finished(visible, certain, lease)))
        return grown.committed

    async def _finished(self, visible: Iterable[Sending], certain: Iterable[Sending], lease: Lease) -> None:
        """Send what can be seen, and take over what was sent."""
        await self._sent(visible)
        lease.check()
        await self._sent(certain)
        await asyncio.to_thread(adopt, self._mirror)
        self._etags |= self._sent_etags

    async def _mirrored(self) -> dict[str, int]:
        """Fetch what changed since the last time, and return the sizes of what is there."""
        self._sent_etags = {}
        found = await asyncio.gather(*(self._store.head(f"{self._prefix}{path}") for path in MIRRORED))
        there = {path: info for path, info in zip(MIRRORED, found, strict=True) if info is not None}
        there = there if layout.INFO_PATH in there else {}  # what a first commit left says nothing
        for path in set(MIRRORED) - set(there):
            self._etags.pop(path, None)
            await asyncio.to_thread((self._mirror / path).unlink, missing_ok=True)
        changed = [path for path, info in there.items() if not await asyncio.to_thread(self._is_known, path, info)]
        await together([self._fetched(path) for path in changed])
        return {path: info.size_bytes for path, info in there.items()}

    def _is_known(self, path: str, info: ObjectInfo) -> bool:
        return info.etag is not None and self._etags.get(path) == info.etag and (self._mirror / path).is_file()

    async def _fetched(self, path: str) -> None:
        self._etags.pop(path, None)
        info = await self._store.get(f"{self._prefix}{path}", self._mirror / path)
        if info.etag is not None:
            self._etags[path] = info.etag

    async def _check_neighbours(self, grown: Growth) -> None:
        """Refuse to build on a dataset whose last table is missing, or that has tables beyond the next one."""
        index = grown.committed.episode_index
        if index == 0:
            return
        info = decoded_info(await asyncio.to_thread((self._mirror / layout.INFO_PATH).read_bytes), place=layout.INFO_PATH)
        last, beyond = info.data_file(index - 1), info.data_file(index + 1)
        is_last, is_beyond = [found is not None for found in await asyncio.gather(*(self._head(path) for path in (last, beyond)))]
        if not is_last or is_beyond:
            wrong = f"{beyond} is there" if is_last else f"{last} is missing"
            raise BadDataset(
                f"{self._store.uri}/{self._prefix}: {wrong}, but info.json says {index} episodes: "
                "run the dataset check, and restore the dataset from a backup"
            )

    async def _head(self, path: str) -> ObjectInfo | None:
        return await self._store.head(f"{self._prefix}{path}")

    async def _sent(self, phase: Iterable[Sending]) -> None:
        slots = asyncio.Semaphore(self._parallel_uploads)

        async def send(sending: Sending) -> None:
            async with slots:
                self._etags.pop(sending.path, None)  # from now on the mirror may be older than the bucket
                await self._store.put(sending.file, f"{self._prefix}{sending.path}")
                await self._verify(sending)

        await together([send(sending) for sending in phase])

    async def _verify(self, sending: Sending) -> None:
        info = await self._head(sending.path)
        size_bytes = (await asyncio.to_thread(sending.file.stat)).st_size
        if info is None or info.size_bytes != size_bytes:
            found = "nothing" if info is None else f"{info.size_bytes} bytes"
            raise StoreUnavailable(
                f"{self._store.uri}/{self._prefix}{sending.path}: sent {size_bytes} bytes, found {found}: it is sent again"
            )
        if sending.path in MIRRORED and info.etag is not None:
            self._sent_etags[sending.path] = info.etag
