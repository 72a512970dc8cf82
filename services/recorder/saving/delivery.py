"""The delivery loop: what waits in the outbox goes to the store and is announced, in the order of recording.

For each episode: to the store, ``episode.ready`` until acknowledged, a mark in the ledger, out of the outbox. A crash
between two steps does the last one again, which changes nothing: the event and its id stay the same. Nobody is asked again and
again: an outage is told once, and the loop goes on when it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from services.recorder.saving import transfer
from services.recorder.saving.episode import Parcel
from services.recorder.saving.forwarding import Forwarding
from services.recorder.saving.news import Announced, Counted, Flowing, FromSaver, HeldBack, Waiting
from services.recorder.saving.outbox import Outbox
from shared import logs
from shared.bus import Bus
from shared.entry import Loaded
from shared.errors import BadConfig, BusUnavailable, EpisodeflowError, Refused, Rejected, Retryable
from shared.events import EpisodeReady
from shared.ledger import Ledger
from shared.message import Receipt
from shared.places import Place, Places
from shared.store import Store, StorePool

_log = logs.logger("delivery")

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_LONGEST_BUS_PAUSE_S = 2.0
_ACKNOWLEDGED_S = 1.0
"""An event that is not acknowledged by then means that the bus is away."""


class Delivery:
    """Delivers what waits.

    Args:
        loaded: the configuration.
        outbox: where it waits.
        tell: takes the news.
        stores: opened as needed.
        forwarding: has sent images ahead.
    """

    def __init__(
        self, loaded: Loaded, outbox: Outbox, tell: Callable[[FromSaver], None], *, stores: StorePool, forwarding: Forwarding
    ) -> None:
        self._storage = loaded.storage
        self._places = loaded.places()
        self._outbox = outbox
        self._tell = tell
        self._stores = stores
        self._forwarding = forwarding
        self._queue: asyncio.Queue[Parcel] = asyncio.Queue()
        self._num_waiting = 0
        self._num_held_back = 0
        self._known: set[str] = set()
        self._outages: set[str] = set()

    def add(self, parcel: Parcel) -> None:
        """Let an episode of the outbox be delivered after those before it; one that is known already is not, again."""
        if parcel.nonce in self._known:
            return
        self._known.add(parcel.nonce)
        self._num_waiting += 1
        self._queue.put_nowait(parcel)
        self._count()

    async def run(self) -> None:
        """Deliver until cancelled."""
        async with Ledger(self._storage.redis) as ledger, self._bus() as bus:
            while not _is_cancelled():
                parcel = await self._queue.get()
                await self._deliver(parcel, ledger=ledger, bus=bus)
                self._count()

    def _count(self) -> None:
        self._tell(Counted(num_waiting=self._num_waiting, num_held_back=self._num_held_back))

    async def _deliver(self, parcel: Parcel, *, ledger: Ledger, bus: asyncio.Task[Bus]) -> None:
        try:
            await self._delivered(parcel, ledger=ledger, bus=bus)
        except Rejected as error:
            self._num_held_back += 1
            await self._note_held_back(parcel, str(error))
            self._tell(HeldBack(episode_id=parcel.event.episode_id, sentence=str(error)))
        else:
            self._num_waiting -= 1

    async def _delivered(self, parcel: Parcel, *, ledger: Ledger, bus: asyncio.Task[Bus]) -> None:
        event = parcel.event
        place = raw_place(self._places, event)
        store = await self._stores.at(place.root)
        raw = self._outbox.raw(parcel)
        sent = await self._forwarding.handed_over(event.episode_id, place)
        progress = transfer.Progress(sizes=self._outbox.image_sizes(parcel), sent=sent)
        await self._patiently("store", lambda: transfer.transfer(store, place, raw=raw, nonce=parcel.nonce, progress=progress))
        receipt = await self._published(parcel, bus)
        delay_s = max(0.0, round(time.time() - event.timestamp, 4))
        self._tell(Announced(episode_id=event.episode_id, seq=receipt.seq, delay_s=delay_s))
        _log.info("episode.announced", episode_id=event.episode_id, seq=receipt.seq, duplicate=receipt.duplicate, delay_s=delay_s)
        await self._patiently("disk", lambda: asyncio.to_thread(self._forwarding.forget, event.episode_id, place))
        await self._claim(event, place, store=store, ledger=ledger)
        await self._patiently("disk", lambda: asyncio.to_thread(self._outbox.remove, parcel))

    async def _patiently(self, what: str, deed: Callable[[], Awaitable[None]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                await deed()
            except Retryable as error:
                self._away(what, str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._back(what)
                return

    async def _note_held_back(self, parcel: Parcel, sentence: str) -> None:
        try:
            await asyncio.to_thread(self._outbox.hold_back, parcel, sentence)
        except EpisodeflowError as error:
            _log.warning("outbox.unmarked", episode_id=parcel.event.episode_id, error=str(error))

    # --- the bus ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _bus(self) -> AsyncIterator[asyncio.Task[Bus]]:
        """Connect beside the deliveries to the store; whoever needs the bus waits for it."""
        connecting = asyncio.create_task(self._connected())
        try:
            yield connecting
        finally:
            connecting.cancel()
            await asyncio.wait({connecting})
            if not connecting.cancelled():
                await connecting.result().close()

    async def _connected(self) -> Bus:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                bus = await Bus.connect(self._storage.nats, name="recorder")
            except (BusUnavailable, Refused, BadConfig) as error:
                # Credentials that are refused keep every episode waiting, not one of them.
                self._away("bus", str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_BUS_PAUSE_S)
            else:
                self._back("bus")
                return bus

    async def _published(self, parcel: Parcel, connecting: asyncio.Task[Bus]) -> Receipt:
        bus = await asyncio.shield(connecting)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                receipt = await self._acknowledged(parcel, bus)
            except (BusUnavailable, Refused) as error:
                bus.connection.check_open()
                # No permission, or no stream: again the same for every episode, until somebody corrects it.
                self._away("bus", str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                self._back("bus")
                return receipt

    async def _acknowledged(self, parcel: Parcel, bus: Bus) -> Receipt:
        publishing = asyncio.create_task(bus.publish(parcel.event, message_id=parcel.message_id))
        try:
            done, _ = await asyncio.wait({publishing}, timeout=_ACKNOWLEDGED_S)
            if not done:
                self._away("bus", f"NATS at {bus.connection.addresses} does not acknowledge episode.ready")
            return await publishing
        finally:
            publishing.cancel()

    # --- the ledger ---------------------------------------------------------------------------------------

    async def _claim(self, event: EpisodeReady, place: Place, *, store: Store, ledger: Ledger) -> None:
        """Leave the mark that keeps the scanner from announcing the episode, too; without Redis there is none."""
        try:
            token = await transfer.revision(store, place)
            # The scanner looks for the strategy it would announce itself.
            for strategy in {event.strategy or self._places.strategy, self._places.strategy}:
                await ledger.claim_ready(event.source, event.episode_id, strategy=strategy, token=token)
        except (Retryable, Refused) as error:
            _log.warning("ledger.unmarked", episode_id=event.episode_id, error=str(error))

    # --- outages ------------------------------------------------------------------------------------------

    def _away(self, what: str, reason: str) -> None:
        if what not in self._outages:
            self._outages.add(what)
            self._tell(Waiting(reason=reason, num_waiting=self._num_waiting - self._num_held_back))

    def _back(self, what: str) -> None:
        if what in self._outages:
            self._outages.discard(what)
            self._tell(Flowing(num_waiting=self._num_waiting - self._num_held_back))


def raw_place(places: Places, event: EpisodeReady) -> Place:
    """Return the folder of a store that a raw episode goes to.

    Raises:
        BadEvent: the source is not configured.
        BadConfig: it has no such folder.
    """
    place = places.raw(event)
    if not isinstance(place, Place):
        raise BadConfig(
            "storage", "sources", f"the source {event.source!r} reads local folders that nobody records to: record for another source"
        )
    return place


def _is_cancelled() -> bool:
    """Say whether we were cancelled: in Python 3.11, ``asyncio.wait_for`` inside a library may have swallowed the exception."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
