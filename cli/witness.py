"""Watching the events go by: what happened to which episode, and when. For commands and tests that wait for outcomes."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

import msgspec

from shared import events
from shared.bus import Bus
from shared.connection import Incoming, Subscribed
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded

_TYPES: dict[str, type[EpisodeReady]] = {
    "ready": EpisodeReady,
    "converted": EpisodeConverted,
    "uploaded": EpisodeUploaded,
    "failed": EpisodeFailed,
}


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it went by; ``body`` as it was published, ``at_s`` on the monotonic clock."""

    event: EpisodeReady
    body: bytes
    at_s: float


class Witness:
    """Sees every event published from its start on; use it as a context.

    Args:
        bus: may subscribe to ``episode.>``.
    """

    def __init__(self, bus: Bus) -> None:
        self.sightings: list[Sighting] = []
        self._bus = bus
        self._seen = asyncio.Condition()
        self._subscribed: Subscribed | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._subscribed = await self._bus.connection.subscribe("episode.>", self._take)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._subscribed:
            await self._subscribed.end(drain=False)

    async def outcome(self, episode_id: str, *, strategy: str | None = None, after: int = 0) -> Sighting:
        """Wait until an episode was uploaded or failed, and return that.

        Args:
            episode_id: which one.
            strategy: only this alignment; None: any.
            after: number of sightings to leave aside, for an episode that had an outcome before.
        """
        return await self.sighting(EpisodeUploaded, EpisodeFailed, episode_id=episode_id, strategy=strategy, after=after)

    async def sighting(self, *types: type[EpisodeReady], episode_id: str, strategy: str | None = None, after: int = 0) -> Sighting:
        """Wait for the first event of one of the types for an episode, and return it."""
        while True:
            for sighting in self.sightings[after:]:
                event = sighting.event
                if type(event) in types and event.episode_id == episode_id and strategy in {None, event.strategy}:
                    return sighting
            async with self._seen:
                count = len(self.sightings)
                await self._seen.wait_for(lambda count=count: len(self.sightings) > count)  # type: ignore[misc]

    def _take(self, incoming: Incoming) -> None:
        stage = incoming.subject.split(".")[1]
        if stage in _TYPES:
            event = events.decode(incoming.body, _TYPES[stage])
            self.sightings.append(Sighting(event=event, body=incoming.body, at_s=time.monotonic()))
            task = asyncio.create_task(self._wake())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        async with self._seen:
            self._seen.notify_all()
