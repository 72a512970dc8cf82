"""The scanner's loop: list, judge, publish what nobody announced, remember how far it got.

Order of the steps, and why. For an episode the ledger does not know: publish, wait for the acknowledgement, then
claim. A crash between the two publishes again with the same message id, which the stream stores once; the other order
could claim and never publish. Two scanners at once send the same id, too. For an episode that the ledger has as
``ready`` with another content (files came late), the claim of the new revision decides, then it is published. One
that the ledger has as converted, completed or failed was announced by its producer and is left alone.

The position makes a scan cheap and blind: a name that sorts before it is never seen again. So the loop sweeps, from the
start, once in a while. Markers live seven days, so a sweep asks the store whether an unknown episode has its dataset
already; only a person (``--full-scan``) may want all of them announced again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time

import msgspec

from services.scanner.announcement import Announcement, announcement
from services.scanner.discovery import Found, Position, Wanted, episodes, start_after
from shared import logs
from shared.bus import Bus
from shared.config import ScannerConfig, StrategyConfig
from shared.episode import METADATA_FILE
from shared.errors import BadConfig, Retryable
from shared.events import EpisodeReady
from shared.ledger import Ledger
from shared.lerobot.layout import INFO_PATH
from shared.lerobot.state import dataset_state, found_bytes
from shared.metrics import Metrics
from shared.places import Place, Places
from shared.store import Store, StorePool

_log = logs.logger("scanner")

_MAX_ROUNDS = 3
_RETRY_S = 2.0
_CONFIGURED = "configured"


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """An episode that is not ready, and why."""

    source: str
    episode_id: str
    why: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What one scan saw.

    Attributes:
        found: episodes in the listings.
        published: ``source/episode_id`` of what was announced now.
        waiting: episodes that are not ready.
        settles_in_s: seconds until the last complete, too young episode settles; 0 if there is none.
    """

    found: int = 0
    published: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    settles_in_s: float = 0.0

    def __add__(self, other: Summary) -> Summary:
        return Summary(
            found=self.found + other.found,
            published=self.published + other.published,
            waiting=self.waiting + other.waiting,
            settles_in_s=max(self.settles_in_s, other.settles_in_s),
        )


class Scanner:
    """Finds ready episodes of every source that lies in a store; the plain source ``local`` is converted or published by hand.

    Args:
        bus: where ``episode.ready`` goes.
        ledger: markers and the scan position.
        stores: opens the sources' roots.
        places: where raw episodes are.
        config: interval, smallest number of files, settling time.
        strategy: which arms and cameras an episode has.
        metrics: count what is announced; None: nobody looks.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        ledger: Ledger,
        stores: StorePool,
        places: Places,
        config: ScannerConfig,
        strategy: StrategyConfig,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics("scanner")
        self._bus = bus
        self._ledger = ledger
        self._stores = stores
        self._places = places
        self._config = config
        self._wanted = Wanted(
            arm_files=tuple(arm.file_name for arm in strategy.robot.arms),
            cameras=tuple(camera.name for camera in strategy.cameras),
            min_files=config.min_episode_files,
            settle_s=config.settle_s,
        )

    async def run(self, stopping: asyncio.Event, *, is_full: bool) -> Summary:
        """Scan every ``interval`` seconds until ``stopping``; the first scan from the start if ``is_full``.

        Raises:
            Rejected: the store or the bus refuses us.
            BusUnavailable: the connection to the bus was closed for good.
        """
        total = Summary()
        swept_s = time.monotonic()
        while not stopping.is_set():
            is_sweep = not is_full and time.monotonic() - swept_s >= self._config.sweep_interval
            scanned = await self._tried(is_full=is_full, is_sweep=is_sweep)
            if scanned is not None:
                swept_s = time.monotonic() if is_full or is_sweep else swept_s
                is_full = False
                total = msgspec.structs.replace(total + scanned, waiting=scanned.waiting, settles_in_s=scanned.settles_in_s)
            await _stopped_within(stopping, self._config.interval)
        return total

    async def once(self, stopping: asyncio.Event, *, is_full: bool) -> Summary:
        """Scan once; complete episodes that are only too young are waited for and looked at again.

        Raises:
            Rejected: the store or the bus refuses us.
            BusUnavailable: the connection to the bus was closed for good.
        """
        total = Summary()
        rounds = 0
        while not stopping.is_set() and rounds < _MAX_ROUNDS:
            scanned = await self._tried(is_full=is_full)
            if scanned is None:
                await _stopped_within(stopping, _RETRY_S)
                continue
            rounds += 1
            total = msgspec.structs.replace(scanned, published=total.published + scanned.published)
            if not scanned.settles_in_s:
                break
            # Stores keep whole seconds: a moment more, or the second look comes too early.
            await _stopped_within(stopping, math.ceil(scanned.settles_in_s) + 0.1)
        return total

    async def scan(self, *, is_full: bool, is_sweep: bool = False) -> Summary:
        """List every source once and publish what is ready.

        Args:
            is_full: from the start, whatever the position.
            is_sweep: from the start too, but without the episodes whose dataset is there.

        Raises:
            StoreUnavailable, LedgerUnavailable, BusUnavailable: try again later; nothing is lost.
            Refused: credentials, bucket or folder.
        """
        positions = _decoded(None if is_full or is_sweep else await self._ledger.scan_position())
        total = Summary()
        for source, root in self._roots().items():
            position = Position(positions.get(source, positions.get("")))
            total += await self._scan_source(source, root, position, is_sweep=is_sweep)
            if position.key is not None:
                positions[source] = position.key
        await self._remember(positions)
        return total

    async def _tried(self, *, is_full: bool, is_sweep: bool = False) -> Summary | None:
        # Only a new process gets another connection: one that is closed for good must not be waited for.
        self._bus.connection.check_open()
        started_s = time.monotonic()
        try:
            summary = await self.scan(is_full=is_full, is_sweep=is_sweep)
        except Retryable as error:
            _log.warning("scan.postponed", error=str(error), error_type=type(error).__name__)
            return None
        duration_s = round(time.monotonic() - started_s, 3)
        _log.info("scan.done", num_episodes=summary.found, num_published=len(summary.published), duration_s=duration_s)
        return summary

    async def _scan_source(self, source: str, root: Place, position: Position, *, is_sweep: bool) -> Summary:
        store = await self._stores.at(root.root)
        now_s = await store.clock_s()
        listing = store.list(root.prefix, start_after=start_after(position.key, root.prefix))
        found_count, settles_in_s = 0, 0.0
        published: list[str] = []
        waiting: list[Waiting] = []
        async for found in episodes(listing, prefix=root.prefix, wanted=self._wanted, now_s=now_s):
            found_count += 1
            position.pass_by(found, is_done=found.is_ready)
            if not found.is_ready:
                waiting.append(Waiting(source=source, episode_id=found.episode_id, why=found.why))
                settles_in_s = max(settles_in_s, found.settles_in_s if found.is_settling else 0.0)
            elif await self._announced(store, source, found, is_sweep=is_sweep):
                published.append(f"{source}/{found.episode_id}")
        return Summary(found=found_count, published=tuple(published), waiting=tuple(waiting), settles_in_s=settles_in_s)

    async def _announced(self, store: Store, source: str, found: Found, *, is_sweep: bool) -> bool:
        """Publish an episode unless it was announced before; the module's docstring has the order and its reason."""
        states = await self._ledger.states(source, found.episode_id)
        known = states.get(self._places.strategy, states.get(_CONFIGURED))
        if known not in {None, "ready"}:
            return False
        wanted = await self._announcement(store, source, found)
        strategy = wanted.event.strategy
        if known is not None:
            is_new = await self._ledger.claim_ready(source, found.episode_id, strategy=strategy, token=found.revision)
            return is_new and await self._published(wanted)
        if strategy in states or (is_sweep and await self._is_converted(wanted.event)):
            return False
        is_stored = await self._published(wanted)
        await self._ledger.claim_ready(source, found.episode_id, strategy=strategy, token=found.revision)
        return is_stored

    async def _announcement(self, store: Store, source: str, found: Found) -> Announcement:
        metadata = await found_bytes(store, f"{found.folder}joints/{METADATA_FILE}")
        fields = {"episode_id": found.episode_id, "source": source, "strategy": self._places.strategy, "timestamp": time.time()}
        return announcement(msgspec.convert(fields, EpisodeReady), revision=found.revision, metadata=metadata)

    async def _is_converted(self, event: EpisodeReady) -> bool:
        """Say whether the episode is in its dataset, or its dataset is complete at its target."""
        if event.dataset is None:
            target = self._places.target(event)
            store = await self._stores.at(target.root)
            return await store.head(f"{target.prefix}{INFO_PATH}") is not None
        place = self._places.dataset(event.dataset)
        state = await dataset_state(await self._stores.at(place.root), place.prefix)
        return state is not None and (event.source, event.episode_id) in state.committed

    async def _published(self, wanted: Announcement) -> bool:
        event = wanted.event
        receipt = await self._bus.publish(event, message_id=wanted.message_id)
        _log.info("episode.announced", source=event.source, episode_id=event.episode_id, seq=receipt.seq, duplicate=receipt.duplicate)
        self._metrics.announced(event.source, is_duplicate=receipt.duplicate)
        return not receipt.duplicate

    def _roots(self) -> dict[str, Place]:
        roots: dict[str, Place] = {}
        for source in self._places.sources:
            with contextlib.suppress(BadConfig):  # `local` without folders has nothing to scan
                root = self._places.raw_root(source)
                if isinstance(root, Place):
                    roots[source] = root
        return roots

    async def _remember(self, positions: dict[str, str]) -> None:
        """Keep the positions: the plain key of the old design for one source, JSON for several."""
        kept = {source: key for source, key in positions.items() if source}
        if not kept:
            return
        text = next(iter(kept.values())) if len(self._roots()) == 1 else msgspec.json.encode(kept).decode()
        await self._ledger.set_scan_position(text)


def _decoded(text: str | None) -> dict[str, str]:
    """Return the position by source; the empty source stands for a plain key, which fits whatever prefix it begins with."""
    if not text:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text.startswith("{") else {"": text}
    except msgspec.DecodeError:
        return {}  # not ours: a scan from the start finds everything anyway


async def _stopped_within(stopping: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
    return stopping.is_set()
