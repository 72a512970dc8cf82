"""One look at the running system: what waits, what is worked on, what failed, what is done, and who serves what.

Everything comes from the stream and its consumers, what is in flight from the workers' own words, and the counters from
Redis where it answers. Needs the permissions of the NATS user ``monitor``.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from shared.bus import Bus
from shared.config import StorageConfig, source_configs
from shared.errors import LedgerUnavailable
from shared.failures import FailureReader, first_seq_since, history, stored_at_s
from shared.ledger import Ledger, Stats
from shared.message import ConsumerInfo
from shared.permissions import PROGRESS_SUBJECT
from shared.progress import Progress, ProgressBoard
from shared.provision import provision_plan

WINDOW_S = 300.0
"""Throughput is measured over the last five minutes."""

_CONSUMED = ("ready", "converted")
_UPLOADED = "episode.uploaded."

State = Literal["served", "busy", "unserved"]


class SourceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One source.

    Attributes:
        source: its name.
        pending: ready episodes that no worker has had yet.
        in_flight: with a converter, or resting before another attempt.
        failed: episodes whose failure is open; ``retried``: published again, without a result yet.
        completed: uploaded episodes; ``failures``: every failure there was.
        counted_by: whose numbers these two are: ``redis`` (for ever) or ``stream`` (as long as it keeps events).
        oldest_s: age of the oldest episode that is not converted; None if there is none.
        per_minute: uploads per minute over the last five.
        eta_s: seconds until nothing is pending or in flight, at that rate; None if it cannot be told.
    """

    source: str
    pending: int
    in_flight: int
    failed: int
    retried: int
    completed: int
    failures: int
    counted_by: Literal["redis", "stream"]
    oldest_s: float | None
    per_minute: float
    eta_s: float | None


class ConsumerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One durable consumer.

    Attributes:
        name, subject: which, and what it gets.
        pending, in_flight, redelivered: messages never delivered, not settled, and of those delivered more than once.
        waiting: idle workers that wait for its next message.
        state: ``served`` (a worker waits), ``busy`` (none waits, messages are in flight), ``unserved`` (neither).
        oldest_s: age of the oldest message that is not settled; None if there is none.
    """

    name: str
    subject: str
    pending: int
    in_flight: int
    redelivered: int
    waiting: int
    state: State
    oldest_s: float | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What ``monitor --once --json`` prints.

    Attributes:
        at: seconds since the epoch.
        sources: in configured order.
        consumers: converters' and uploaders' consumers, by name.
        episodes: what workers say they are working on.
        unconsumed: messages by subject, for subjects that no consumer gets.
        notices: what a person should know about these numbers.
    """

    at: float
    sources: tuple[SourceRow, ...]
    consumers: tuple[ConsumerRow, ...]
    episodes: tuple[Progress, ...]
    unconsumed: dict[str, int]
    notices: tuple[str, ...]


class Observer:
    """Looks again and again, and keeps what does not change in between.

    Args:
        bus: connected, as a user who may look.
        ledger: Redis.
        storage: sources and stream.
        strategy: the configured one, which an event without a strategy means.
        board: what workers said.
    """

    def __init__(self, *, bus: Bus, ledger: Ledger, storage: StorageConfig, strategy: str, board: ProgressBoard) -> None:
        self._bus = bus
        self._ledger = ledger
        self._storage = storage
        self._board = board
        self._failures = FailureReader(bus, strategy=strategy)
        self._uploads = _Uploads(bus)

    async def look(self) -> Overview:
        """Return how things are now.

        Raises:
            Refused: no stream, or no permission to look.
            BusUnavailable: NATS is away.
        """
        now_s = time.time()
        infos = await _settled_infos(self._bus)
        info = await self._bus.stream_info(subjects="episode.>")
        subjects = info.state.subjects if info else {}
        log = await self._failures.catch_up()
        consumers = [await _consumer_row(self._bus, found, now_s=now_s) for found in infos]
        stats, notices = await self._stats()
        uploads = await self._uploads.num_since(now_s - WINDOW_S)
        statuses = [(failure.source, failure.status) for failure in log.failures()]
        by_durable = {row.name: row for row in consumers}
        converters = {row.subject: row for row in by_durable.values()}
        names = [source.name for source in source_configs(self._storage)]
        missing = [durable.name for durable in provision_plan(self._storage).durables if durable.name not in by_durable]
        if missing:
            notices.append(f"the stream has no consumer {', '.join(missing)}: run `episodeflow provision`")
        rows = [
            _source_row(
                name,
                consumer=converters.get(f"episode.ready.{name}"),
                num_failed=statuses.count((name, "open")),
                num_retried=statuses.count((name, "retried")),
                subjects=subjects,
                stats=stats.get(name),
                num_uploads=uploads.get(name, 0),
            )
            for name in names
        ]
        return Overview(
            at=now_s,
            sources=tuple(rows),
            consumers=tuple(consumers),
            episodes=tuple(self._board.in_flight(now_s=time.monotonic())),
            unconsumed=unconsumed(subjects, [row.subject for row in consumers]),
            notices=tuple(notices),
        )

    async def _stats(self) -> tuple[dict[str, Stats], list[str]]:
        names = [source.name for source in source_configs(self._storage)]
        try:
            return {name: await self._ledger.stats(name) for name in names}, []
        except LedgerUnavailable as error:
            return {}, [f"completed and failures are counted on the stream: {error}"]


class _Uploads:
    """When episodes were uploaded, over the last minutes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._next_seq = 0
        self._times: deque[tuple[float, str]] = deque()

    async def num_since(self, moment_s: float) -> dict[str, int]:
        """Return the uploads by source since a moment (seconds since the epoch) that only moves forward."""
        info = await self._bus.stream_info()
        if info is None:
            return {}
        if not self._next_seq:
            self._next_seq = await first_seq_since(self._bus, moment_s)
        async for stored in history(self._bus, first_seq=self._next_seq, last_seq=info.state.last_seq):
            self._next_seq = stored.seq + 1
            if stored.subject.startswith(_UPLOADED):
                self._times.append((stored_at_s(stored), stored.subject.removeprefix(_UPLOADED)))
        while self._times and self._times[0][0] < moment_s:
            self._times.popleft()
        counts: dict[str, int] = {}
        for _, source in self._times:
            counts[source] = counts.get(source, 0) + 1
        return counts


async def _settled_infos(bus: Bus) -> list[ConsumerInfo]:
    """Return the consumers' states; a worker between two pulls is given a moment to pull again."""
    infos = await bus.consumer_infos()
    for _ in range(2):
        if all(state_of(info) != "unserved" for info in infos):
            break
        await asyncio.sleep(0.1)
        again = {info.name: info for info in await bus.consumer_infos()}
        infos = [again.get(info.name, info) if state_of(info) == "unserved" else info for info in infos]
    return sorted(infos, key=lambda info: info.name)


def state_of(info: ConsumerInfo) -> State:
    """Return whether anybody serves a consumer, as far as can be seen from outside."""
    return "served" if info.num_waiting else "busy" if info.num_ack_pending else "unserved"


def unconsumed(num_by_subject: Mapping[str, int], filters: list[str]) -> dict[str, int]:
    """Return the messages by subject that wait for a service and that no consumer gets.

    Args:
        num_by_subject: what the stream holds.
        filters: the subject of each consumer.
    """
    waiting = {subject: num for subject, num in sorted(num_by_subject.items()) if subject.split(".")[1] in _CONSUMED}
    return {subject: num for subject, num in waiting.items() if subject not in filters}


async def _consumer_row(bus: Bus, info: ConsumerInfo, *, now_s: float) -> ConsumerRow:
    subject = str(info.config.get("filter_subject", ""))
    oldest_s = None
    if info.num_pending + info.num_ack_pending:
        oldest = await bus.stored(info.ack_floor.stream_seq + 1, next_on=subject or None)
        oldest_s = max(0.0, round(now_s - stored_at_s(oldest), 3)) if oldest else None
    return ConsumerRow(
        name=info.name,
        subject=subject,
        pending=info.num_pending,
        in_flight=info.num_ack_pending,
        redelivered=info.num_redelivered,
        waiting=info.num_waiting,
        state=state_of(info),
        oldest_s=oldest_s,
    )


def _source_row(
    source: str,
    *,
    consumer: ConsumerRow | None,
    num_failed: int,
    num_retried: int,
    subjects: Mapping[str, int],
    stats: Stats | None,
    num_uploads: int,
) -> SourceRow:
    pending, in_flight = (consumer.pending, consumer.in_flight) if consumer else (subjects.get(f"episode.ready.{source}", 0), 0)
    per_minute = num_uploads * 60 / WINDOW_S
    left = pending + in_flight
    return SourceRow(
        source=source,
        pending=pending,
        in_flight=in_flight,
        failed=num_failed,
        retried=num_retried,
        completed=stats.completed if stats else subjects.get(f"episode.uploaded.{source}", 0),
        failures=stats.failed if stats else subjects.get(f"episode.failed.{source}", 0),
        counted_by="redis" if stats else "stream",
        oldest_s=consumer.oldest_s if consumer else None,
        per_minute=round(per_minute, 2),
        eta_s=0.0 if not left else round(left * 60 / per_minute, 1) if per_minute else None,
    )


@asynccontextmanager
async def listening(bus: Bus, board: ProgressBoard) -> AsyncIterator[None]:
    """Hand the workers' words to ``board`` inside the block."""
    subscribed = await bus.connection.subscribe(f"{PROGRESS_SUBJECT}.>", lambda incoming: board.take(incoming.body, now_s=time.monotonic()))
    try:
        yield
    finally:
        await subscribed.end(drain=False)
