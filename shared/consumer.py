"""The runtime of a service: pull a message, decode it, let the handler work, publish what follows, acknowledge.

Decides when a message is acknowledged, comes again, or fails for good (with ``verdict``), and how work ends at
shutdown. Does not know what the work is.

The order of the steps is the guarantee: the next event is published and acknowledged by the server before the
message is, so a crash anywhere repeats work and loses none; the repeated event has the same message id and is
stored once. While work runs, heartbeats keep the message from coming again; should they get lost, the message
is handled twice with the same result.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, Protocol

import msgspec
import structlog

from shared import events, logs, verdict
from shared.bus import Bus
from shared.errors import BadEvent, BusUnavailable, EpisodeflowError, Rejected, Retryable, WorkerCrashed
from shared.events import E, EpisodeConverted, EpisodeFailed, EpisodeReady, Reason
from shared.message import Message
from shared.metrics import Metrics
from shared.pull import Puller

_log = logs.logger("consumer")

_STOP_TIMEOUT_S = 2.0


class Delivery(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """One delivery of one event.

    Attributes:
        event: decoded.
        subject: where it was published.
        seq: its number in the stream; the same at every delivery.
        attempt: which delivery this is, from 1.
        timestamp_s: when the server stored it, seconds since the epoch.
    """

    event: E
    subject: str
    seq: int
    attempt: int
    timestamp_s: float


class Excuses(Protocol):
    """Remembers, over all workers, how many deliveries of a message do not count against its episode.

    The server counts every delivery, also those that a shutdown or an outage ended; it does not know why.
    """

    async def excuse(self, key: str) -> None:
        """Count one more; lost if the memory is away."""
        ...

    async def num_excused(self, key: str) -> int | None:
        """Return how many there are, or None if the memory is away."""
        ...


class Counts(msgspec.Struct):
    """How many messages ended how; ``returned`` = given back at shutdown."""

    done: int = 0
    retried: int = 0
    failed: int = 0
    returned: int = 0


class Work(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """What a service consumes and does.

    Attributes:
        stage: the service's name in failures and logs.
        durables: the consumers it serves in fair turn.
        event_type: what their messages decode into.
        handler: does the work and returns the event to publish next, or None.
        slots: messages handled at once.
        max_attempts: deliveries that ended without an answer, or in a crash, after which an episode fails.
        patience_s: how long a message may rest in all, while store, bus or disk are not as they should be, before it fails.
        excuses: remembers deliveries that the world ended; None: every delivery counts.
        grace_s: how long work may go on after the stop.
        on_failed: told of every failure, and the message's number, after its event was published; it must not raise.
    """

    stage: str
    durables: tuple[str, ...]
    event_type: type[E]
    handler: Callable[[Delivery[E]], Awaitable[EpisodeReady | None]]
    slots: int = 1
    max_attempts: int = 5
    patience_s: float = 3600.0
    excuses: Excuses | None = None
    grace_s: float = 30.0
    on_failed: Callable[[EpisodeFailed, int], Awaitable[None]] | None = None


class _Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How the handling of one message ended; ``source`` is None if the event was not readable."""

    outcome: str
    source: str | None = None
    num_bytes: int = 0


class _Failure(Exception):
    """Carries an error to the one place that settles the message."""

    def __init__(self, event: EpisodeReady, error: Exception, reason: Reason | None = None) -> None:
        super().__init__(str(error))
        self.event = event
        self.error = error
        self.reason = reason


class Consumer(Generic[E]):
    """Runs ``Work`` on a bus until told to stop."""

    def __init__(self, bus: Bus, work: Work[E], *, metrics: Metrics | None = None) -> None:
        self._bus = bus
        self._work = work
        self._metrics = metrics or Metrics(work.stage)
        self._puller = Puller(bus, work.durables)
        self._slots = asyncio.Semaphore(work.slots)
        self._tasks: set[asyncio.Task[None]] = set()
        self._host = socket.gethostname()
        self.counts = Counts()

    async def run(self, stopping: asyncio.Event) -> Counts:
        """Serve until ``stopping`` is set, then let work finish for ``grace_s`` and give the rest back.

        Raises:
            Refused: a durable is missing, or a permission.
            BusUnavailable: the bus was closed under us.
        """
        await self._puller.check()
        fetching = asyncio.create_task(self._fetch())
        waiting = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({fetching, waiting}, return_when=asyncio.FIRST_COMPLETED)
            self._puller.stop()
            if self._puller.is_pulling:  # else it waits for a slot or for the server, and holds nothing
                await asyncio.wait({fetching}, timeout=_STOP_TIMEOUT_S)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._work.grace_s)
        finally:
            await _cancelled([waiting, fetching, *self._tasks])
        if fetching.done() and not fetching.cancelled():
            fetching.result()
        return self.counts

    async def _fetch(self) -> None:
        while True:
            await self._slots.acquire()
            message = await self._puller.next()
            if message is None:
                return
            task = asyncio.create_task(self._handle(message))
            self._tasks.add(task)
            task.add_done_callback(self._release)

    def _release(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _handle(self, message: Message) -> None:
        """Bring one message to its end; every outcome passes ``_record``."""
        started_s = time.monotonic()
        heartbeat = asyncio.create_task(self._heartbeat(message))
        ending = _Ending(outcome="returned")
        self._metrics.begun(attempt=message.attempt)
        with structlog.contextvars.bound_contextvars(seq=message.seq, attempt=message.attempt, durable=message.durable):
            try:
                ending = await self._ending(message)
            except asyncio.CancelledError:
                await self._excused_back(message, 0.0)
                raise
            finally:
                await _cancelled([heartbeat])
                self._record(ending, message, time.monotonic() - started_s)

    async def _ending(self, message: Message) -> _Ending:
        try:
            event, following = await self._worked(message)
        except _Failure as failure:
            return _Ending(outcome=await self._failed(message, failure), source=failure.event.source)
        return _Ending(outcome="done", source=event.source, num_bytes=_num_bytes(following) or _num_bytes(event))

    async def _worked(self, message: Message) -> tuple[E, EpisodeReady | None]:
        """Return the message's event, and the event that followed."""
        try:
            event = events.decode(message.body, self._work.event_type)
        except BadEvent as error:
            described = BadEvent(f"{error} (message {message.seq} on {message.subject}: {verdict.body_text(message.body)})")
            raise _Failure(verdict.unreadable_event(message.body), described, "rejected") from error
        strikes = await self._strikes(message) - 1  # this delivery has done nothing yet
        if strikes >= self._work.max_attempts:
            raise _Failure(event, _crash(message.attempt, strikes), "crashed")
        with structlog.contextvars.bound_contextvars(source=event.source, episode_id=event.episode_id):
            return event, await self._handled(message, event)

    async def _handled(self, message: Message, event: E) -> EpisodeReady | None:
        delivery = Delivery(event=event, subject=message.subject, seq=message.seq, attempt=message.attempt, timestamp_s=message.timestamp_s)
        try:
            following = await self._work.handler(delivery)
            if following is not None:
                await self._bus.publish(following, message_id=verdict.message_id(following, seq=message.seq))
        except EpisodeflowError as error:
            raise _Failure(event, error) from error
        except Exception as error:  # the one place in the house: a mistake in a handler is one episode's, not the service's
            _log.error("handler.broken", error=str(error), error_type=type(error).__name__, exc_info=True)
            raise _Failure(event, error) from error
        await self._acknowledged(message)
        return following

    async def _acknowledged(self, message: Message) -> None:
        try:
            await message.ack(timeout_s=self._bus.config.ack_wait_s)
        except BusUnavailable as error:
            _log.warning("message.unacknowledged", error=str(error))

    async def _failed(self, message: Message, failure: _Failure) -> str:
        """Publish the failure and end the message, or give it back for another attempt."""
        work, error = self._work, failure.error
        strikes = await self._strikes(message)
        reason = failure.reason or verdict.failure_reason(
            error, attempt=message.attempt, strikes=strikes, max_attempts=work.max_attempts, patience_s=work.patience_s
        )
        delay_s = verdict.retry_delay_s(message.attempt)
        if reason is None:
            _log.warning("episode.retried", error=str(error), error_type=type(error).__name__, delay_s=delay_s)
            await (self._excused_back if verdict.is_excused(error) else _given_back)(message, delay_s)
            return "retried"
        failed = verdict.failed_event(
            failure.event, error, stage=work.stage, reason=reason, attempts=message.attempt, host=self._host, failed_at=time.time()
        )
        try:
            await self._bus.publish(failed, message_id=verdict.message_id(failed, seq=message.seq))
            await message.term(timeout_s=self._bus.config.ack_wait_s)
        except (Retryable, Rejected) as problem:
            # Without its failure on the stream the message must stay: it comes again and is failed then.
            _log.error("failure.unpublished", error=str(problem), error_type=type(problem).__name__, delay_s=delay_s)
            await self._excused_back(message, delay_s)
            return "retried"
        await self._tell(failed, message.seq)
        return "failed"

    async def _strikes(self, message: Message) -> int:
        """Return how many deliveries, with this one, count against the episode."""
        work = self._work
        if work.excuses is None or message.attempt < work.max_attempts:
            return message.attempt  # whatever is excused, the limit is not reached
        num_excused = await work.excuses.num_excused(_excuse_key(message))
        if num_excused is None:
            # Nobody knows. An outage may use up so many deliveries; an episode that kills is stopped after as many and its own.
            num_excused = verdict.num_patient_attempts(work.patience_s)
        return max(1, message.attempt - num_excused)

    async def _excused_back(self, message: Message, delay_s: float) -> None:
        """Give a message back that was not to blame."""
        if self._work.excuses is not None:
            await self._work.excuses.excuse(_excuse_key(message))
        await _given_back(message, delay_s)

    async def _tell(self, failed: EpisodeFailed, seq: int) -> None:
        self._metrics.failed(source=failed.source, reason=failed.reason, error_type=failed.error_type)
        _log.warning(
            "episode.failed", source=failed.source, episode_id=failed.episode_id, reason=failed.reason, error=failed.error,
            error_type=failed.error_type,
        )  # fmt: skip
        if self._work.on_failed:
            await self._work.on_failed(failed, seq)

    async def _heartbeat(self, message: Message) -> None:
        while True:
            await asyncio.sleep(self._bus.config.ack_wait_s / 3)
            try:
                if self._bus.is_connected:
                    await message.in_progress()
                    continue
            except BusUnavailable as error:
                _log.debug("heartbeat.lost", error=str(error))
            self._metrics.heartbeat_lost()  # it costs at worst a second handling

    def _record(self, ending: _Ending, message: Message, duration_s: float) -> None:
        outcome = ending.outcome
        self._metrics.ended(outcome, source=ending.source, duration_s=duration_s, num_bytes=ending.num_bytes)
        setattr(self.counts, outcome, getattr(self.counts, outcome) + 1)
        _log.info("message.handled", stage=self._work.stage, subject=message.subject, outcome=outcome, duration_s=round(duration_s, 4))


def _num_bytes(event: EpisodeReady | None) -> int:
    return event.num_bytes if isinstance(event, EpisodeConverted) else 0


def _crash(attempt: int, strikes: int) -> WorkerCrashed:
    return WorkerCrashed(
        f"this is delivery {attempt}: {strikes} earlier ones ended without an answer, so the episode killed its workers "
        "(memory?) or they were killed; look into it, then publish it again"
    )


def _excuse_key(message: Message) -> str:
    """Name a message for ever: sequence numbers begin anew when a stream is made again."""
    return f"{message.durable}:{message.seq}:{message.timestamp_s:.6f}"


async def _given_back(message: Message, delay_s: float) -> None:
    try:
        await message.nak(delay_s)
    except BusUnavailable as error:
        _log.warning("message.unreturned", error=str(error))


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
