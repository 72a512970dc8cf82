"""The uploader: bring a converted episode from the spool to its target, say so, then empty the spool.

The handler publishes ``episode.uploaded`` itself, with the id the consumer would give it, because the spool's folder may
only go once that event is acknowledged. A crash in between leaves no folder and a complete target: the next delivery
sees the same digest there and publishes the same event again. A fresh target in a folder store is written under a
hidden sibling and appears by one rename; everywhere else ``meta/info.json``, sent last, makes it complete.

An event that names a dataset goes there as its next episode (``growing``); for everything else it is the same story.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable
from pathlib import Path

from services.uploader.folder import copy_folder, sweep_folder
from services.uploader.growing import Arrival, GrowingDatasets
from services.uploader.plan import MANIFEST, Upload, UploadPlan, checked_path, holds_part, is_complete, manifest_digest, upload_plan
from services.uploader.spool import Lying, Spool
from services.uploader.waiting import together
from shared import logs
from shared.bus import Bus
from shared.consumer import Delivery
from shared.errors import BadDataset, BadEvent, EpisodeflowError, Rejected, StoreUnavailable
from shared.events import EpisodeConverted, EpisodeUploaded
from shared.ledger import Ledger
from shared.places import Place, Places
from shared.progress import ProgressReporter
from shared.store import Store, StorePool
from shared.verdict import message_id

_log = logs.logger("uploader")

_TIDY_INTERVAL_S = 5.0
_ROUNDS_PER_FULL = 120


class Uploader:
    """Handles ``episode.converted``.

    Args:
        bus: where ``episode.uploaded`` goes.
        ledger: told of completed episodes.
        stores: opens the targets' roots.
        places: where targets are.
        spool: the folder that converters leave datasets in.
        parallel_uploads: files in flight at once, for one episode.
        growing: takes the episodes whose events name a dataset.
        durable: the consumer that brings the spool's events; None: nobody can tell what still waits for its event.
        progress: told which episode is being uploaded; None: nobody is.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        ledger: Ledger,
        stores: StorePool,
        places: Places,
        spool: Path,
        parallel_uploads: int,
        growing: GrowingDatasets,
        durable: str | None = None,
        progress: ProgressReporter | None = None,
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._stores = stores
        self._places = places
        self._spool = Spool(spool)
        self._parallel_uploads = parallel_uploads
        self._growing = growing
        self._durable = durable
        self._progress = progress or ProgressReporter(None, worker="uploader")

    async def handle(self, delivery: Delivery[EpisodeConverted]) -> None:
        """Upload one episode, publish ``episode.uploaded``, remove the spool's folder.

        Raises:
            BadEvent: a path outside the spool, or an unknown source.
            BadDataset: the spool has no such folder and the target is not complete either, or the part does not fit its dataset.
            DatasetBusy: others are committing into its dataset.
            StoreUnavailable, DiskFull, Refused: see ``shared.store_object.Store``.
        """
        event = delivery.event
        part = self._part(event)
        # The same episode twice at once: the second waits, and finds the target complete and the spool's folder gone.
        async with self._spool.holding(part), self._progress.reporting(event, "uploading"):
            arrival = await self._brought(event, part)
            fields = {name: getattr(event, name) for name in event.__struct_fields__}
            uploaded = EpisodeUploaded(**fields, uri=arrival.uri, episode_index=arrival.episode_index)
            await self._bus.publish(uploaded, message_id=message_id(uploaded, seq=delivery.seq))
            await self._ledger.note(event.source, event.episode_id, strategy=event.strategy, state="completed", token=event.digest)
            await asyncio.to_thread(self._spool.remove, part, dataset=event.dataset)

    async def keep_tidy(self) -> None:
        """Tidy the spool until cancelled: everything in it at the start and now and then, between that only what came again."""
        await asyncio.to_thread(self._spool.sweep)
        for round_number in itertools.count():
            try:
                await self.tidy(is_full=round_number % _ROUNDS_PER_FULL == 0)
            except EpisodeflowError as error:
                _log.debug("spool.untidy", error=str(error))  # nothing is lost but room, and only for now
            await asyncio.sleep(_TIDY_INTERVAL_S)

    async def tidy(self, *, is_full: bool) -> int:
        """Remove folders of the spool whose dataset is complete at its target, and return how many.

        A converter that stood still while another one took over brings its dataset when nobody waits for it any more.

        Args:
            is_full: look at every folder, not only at those that came again after they were removed.

        Raises:
            BadEvent: a folder belongs to a source that is not configured.
            StoreUnavailable, Refused: a target cannot be looked at.
        """
        num_removed = 0
        for found in await asyncio.to_thread(self._spool.lying, is_full=is_full):
            async with self._spool.holding(found.folder):
                if await self._is_there(found) or (is_full and await self._is_in_known_dataset(found)):
                    await asyncio.to_thread(self._spool.remove, found.folder, dataset=found.event.dataset)
                    num_removed += 1
        return num_removed

    async def _is_there(self, found: Lying) -> bool:
        """Return whether what lies in the spool is at the target that its event named, as far as that is remembered."""
        if found.event.dataset is not None:
            return await self._growing.found(found.event.dataset, found.event, digest=found.digest) is not None
        target = self._places.target(found.event)
        store = await self._stores.at(target.root)
        sizes = await asyncio.to_thread(self._spool.sizes, found.folder)
        existing, existing_digest = await _listed(store, target)
        return holds_part(sizes, existing=existing, prefix=target.prefix, digest=found.digest, existing_digest=existing_digest)

    async def _is_in_known_dataset(self, found: Lying) -> bool:
        """Return whether it is in a dataset that this spool has fed, and no event waits that could name another target."""
        info = await self._bus.consumer_info(self._durable) if self._durable else None
        if info is None or info.num_pending or info.num_ack_pending:
            return False
        for name in await asyncio.to_thread(self._spool.datasets):
            if await self._growing.found(name, found.event, digest=found.digest) is not None:
                return True
        return False

    def _part(self, event: EpisodeConverted) -> Path:
        root = self._spool.root
        part = root / checked_path(event.path)
        if not part.resolve().is_relative_to(root.resolve()):
            raise BadEvent(f"the path {event.path!r} leads out of the spool {root}: expected a folder below it")
        return part

    async def _brought(self, event: EpisodeConverted, part: Path) -> Arrival:
        sizes = await asyncio.to_thread(self._spool.sizes, part)
        try:
            if event.dataset is not None:
                return await self._grown(event, part, event.dataset, is_there=bool(sizes))
            target = self._places.target(event)
            store = await self._stores.at(target.root)
            await self._sent_unless_there(event, part, target, store=store, sizes=sizes)
            return Arrival(target.uri)
        except Rejected as error:
            if sizes and not await asyncio.to_thread(part.exists):
                # Another uploader of this spool (one that is about to end?) was faster and emptied it.
                raise StoreUnavailable(f"{part}: went away while it was read: its target is looked at again") from error
            raise

    async def _grown(self, event: EpisodeConverted, part: Path, name: str, *, is_there: bool) -> Arrival:
        if is_there:
            await self._check_digest(part, event)
            await asyncio.to_thread(self._spool.feeds, name)
            return await self._growing.committed(name, part)
        arrival = await self._growing.found(name, event, digest=event.digest)
        if arrival is None:
            raise BadDataset(
                f"{part}: the spool has no such dataset and {name} does not hold it: publish episode.ready again to convert it anew"
            )
        return arrival

    async def _sent_unless_there(self, event: EpisodeConverted, part: Path, target: Place, *, store: Store, sizes: dict[str, int]) -> None:
        existing, existing_digest = await _listed(store, target)
        prefix, digest = target.prefix, event.digest
        if not sizes:
            if is_complete(existing, prefix=prefix, digest=digest, existing_digest=existing_digest, num_bytes=event.num_bytes):
                return
            raise BadDataset(
                f"{part}: the spool has no such dataset and {target.uri} does not hold it: publish episode.ready again to convert it anew"
            )
        await self._check_digest(part, event)
        folder = store.local_path(target.prefix)
        if folder is not None and not await asyncio.to_thread(folder.exists):
            await asyncio.to_thread(copy_folder, part, sizes=sizes, folder=folder)
            return
        if folder is not None:
            await asyncio.to_thread(sweep_folder, folder)
        plan = upload_plan(sizes, existing=existing, prefix=prefix, digest=digest, existing_digest=existing_digest)
        if not plan.is_skipped:
            await self._sent(store, part, plan)

    async def _check_digest(self, part: Path, event: EpisodeConverted) -> None:
        try:
            found = manifest_digest(await asyncio.to_thread((part / MANIFEST).read_bytes))
        except FileNotFoundError:
            found = None
        if found != event.digest:
            raise BadDataset(f"{part / MANIFEST} has the digest {found}, the event says {event.digest}: publish episode.ready again")

    async def _sent(self, store: Store, part: Path, plan: UploadPlan) -> None:
        """Replace or create key by key; the target is incomplete from the first step to the last."""
        if plan.first_removed:
            await store.delete([plan.first_removed])
        await store.delete(plan.removed)
        await self._all(store, part, plan.uploads)
        await self._all(store, part, (plan.last,))
        await self._verify(store, (*plan.uploads, plan.last))

    async def _all(self, store: Store, part: Path, uploads: Iterable[Upload]) -> None:
        slots = asyncio.Semaphore(self._parallel_uploads)

        async def send(upload: Upload) -> None:
            async with slots:
                await store.put(part / upload.path, upload.key)

        await together([send(upload) for upload in uploads])

    async def _verify(self, store: Store, uploads: tuple[Upload, ...]) -> None:
        slots = asyncio.Semaphore(self._parallel_uploads)

        async def check(upload: Upload) -> None:
            async with slots:
                info = await store.head(upload.key)
            if info is None or info.size_bytes != upload.size_bytes:
                found = "nothing" if info is None else f"{info.size_bytes} bytes"
                raise StoreUnavailable(f"{store.uri}/{upload.key}: sent {upload.size_bytes} bytes, found {found}: it is uploaded again")

        await together([check(upload) for upload in uploads])


async def _listed(store: Store, target: Place) -> tuple[dict[str, int], str | None]:
    """Return the bytes by key of what lies at the target, and the digest it says it has."""
    existing = {info.key: info.size_bytes async for info in store.list(target.prefix)}
    manifest = f"{target.prefix}{MANIFEST}"
    return existing, manifest_digest(await store.get_bytes(manifest)) if manifest in existing else None
