"""How far the work on an episode is, told on core NATS once a second while it lasts; nothing is kept.

Decides the message and its subject, ``episodeflow.progress.{source}.{episode_id}`` (dots in names become ``_``, as in the
names of consumers). Progress is a courtesy: where it cannot be sent, the work goes on without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import msgspec

from shared.bus import Bus
from shared.config import durable_name
from shared.errors import BusUnavailable
from shared.events import EpisodeReady
from shared.permissions import PROGRESS_SUBJECT

INTERVAL_S = 1.0
"""Seconds between two messages about one episode."""

Stage = Literal["fetching", "converting", "uploading", "done"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one episode is with one worker.

    Attributes:
        source, episode_id, strategy: the episode; strategy None means the configured one.
        stage: what is being done; ``done`` is the last message, whatever the outcome.
        host, pid: where.
        worker: the service.
        started_at, updated_at: seconds since the epoch, by the worker's clock.
        frames_done: camera frames encoded, all cameras together.
        frames_total: how many there are to encode, estimated; 0 = not known.
    """

    source: str
    episode_id: str
    strategy: str | None
    stage: Stage
    host: str
    pid: int
    worker: str
    started_at: float
    updated_at: float
    frames_done: int = 0
    frames_total: int = 0


class Report:
    """What the work on one episode has reached; the worker changes it, the reporter sends it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.frames_done = 0
        self.frames_total = 0
        self._count: Callable[[], int] | None = None

    def converting(self, count: Callable[[], int]) -> None:
        """Say that frames are being encoded; ``count`` tells how many there are, and is asked in a thread if it comes to that."""
        self.stage, self._count = "converting", count

    def add(self, num_frames: int) -> None:
        """Count frames that have been encoded."""
        self.frames_done += num_frames

    async def counted(self) -> None:
        """Find out how many frames there are, once."""
        count, self._count = self._count, None
        if count is not None:
            self.frames_total = await asyncio.to_thread(count)


class ProgressReporter:
    """Tells how far this process is with its episodes.

    Args:
        bus: connected; None keeps silent.
        worker: the service's name.
        interval_s: seconds between two messages about one episode.
    """

    def __init__(self, bus: Bus | None, *, worker: str, interval_s: float = INTERVAL_S) -> None:
        self._bus = bus
        self._worker = worker
        self._interval_s = interval_s
        self._host = socket.gethostname()

    @asynccontextmanager
    async def reporting(self, event: EpisodeReady, stage: Stage) -> AsyncIterator[Report]:
        """Give a report that is sent at once, every interval, and at the end of the block."""
        report, started_at = Report(stage), time.time()
        telling = asyncio.create_task(self._tell(event, report, started_at))
        try:
            yield report
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            report.stage = "done"
            await self._send(event, report, started_at)

    async def _tell(self, event: EpisodeReady, report: Report, started_at: float) -> None:
        while True:
            await self._send(event, report, started_at)
            await asyncio.sleep(self._interval_s)
            await report.counted()

    async def _send(self, event: EpisodeReady, report: Report, started_at: float) -> None:
        if self._bus is None or not self._bus.is_connected:
            return
        progress = Progress(
            source=event.source,
            episode_id=event.episode_id,
            strategy=event.strategy,
            stage=report.stage,
            host=self._host,
            pid=os.getpid(),
            worker=self._worker,
            started_at=started_at,
            updated_at=time.time(),
            frames_done=report.frames_done,
            frames_total=report.frames_total,
        )
        with contextlib.suppress(BusUnavailable):
            await self._bus.connection.send(progress_subject(event.source, event.episode_id), msgspec.json.encode(progress))


class ProgressBoard:
    """The episodes that are being worked on, as told so far.

    Args:
        silent_s: a worker that says nothing for so long is gone.
    """

    def __init__(self, *, silent_s: float = 10 * INTERVAL_S) -> None:
        self._silent_s = silent_s
        self._latest: dict[tuple[str, ...], tuple[float, Progress]] = {}

    def take(self, body: bytes, *, now_s: float) -> None:
        """Take a message that arrived at ``now_s``, by any steadily running clock; one that does not decode is passed over."""
        try:
            progress = msgspec.json.decode(body, type=Progress)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        key = (progress.source, progress.episode_id, progress.strategy or "", progress.worker, progress.host, str(progress.pid))
        if progress.stage == "done":
            self._latest.pop(key, None)
        else:
            self._latest[key] = (now_s, progress)

    def in_flight(self, *, now_s: float) -> list[Progress]:
        """Return the latest word about every episode whose worker has not fallen silent, the longest at work first."""
        self._latest = {key: (heard_s, told) for key, (heard_s, told) in self._latest.items() if now_s - heard_s < self._silent_s}
        return sorted((told for _, told in self._latest.values()), key=lambda told: (told.started_at, told.source, told.episode_id))


def progress_subject(source: str, episode_id: str) -> str:
    """Return where the progress of an episode is told."""
    return f"{PROGRESS_SUBJECT}.{durable_name(source)}.{durable_name(episode_id)}"
