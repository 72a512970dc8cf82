"""Which episodes' images go to a bucket while they are being recorded, so that little is left to send when they end.

Theory of operation. ``recording/`` is listed several times a second. Before the first image of an episode goes, its place in the
store is found empty and a trace is noted (``traces``): whatever becomes of the episode, its objects can be found. Without
``joints/`` nobody takes them for an episode. When an episode has ended, its delivery takes over what the store has
acknowledged; a saver that was restarted asks the store instead. Nothing waits for any of this, and nothing of it is told.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

from services.recorder.saving.early import EarlyImages
from services.recorder.saving.growing import GrowingImages
from services.recorder.saving.traces import Traces
from shared import logs
from shared.errors import EpisodeflowError
from shared.events import NAME_PATTERN
from shared.places import Place
from shared.store import StorePool

_log = logs.logger("forwarding")

_INTERVAL_S = 0.1
_IN_HAND_S = 1.0
_MOST_REMEMBERED = 8
"""Finished episodes that wait for their delivery, and of which we know what the store has: memory is bounded."""

_NAME = re.compile(NAME_PATTERN)


class Forwarding:
    """Sends images ahead.

    Args:
        folder: the recorder's.
        stores: opened as needed.
        place_of: the folder of the store that an episode goes to, by its name.
    """

    def __init__(self, folder: Path, *, stores: StorePool, place_of: Callable[[str], Place]) -> None:
        self._recording, self._outbox = folder / "recording", folder / "outbox"
        self._traces = Traces(folder)
        self._stores = stores
        self._place_of = place_of
        self._early: dict[str, EarlyImages] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Send until cancelled; return at once where episodes go to a folder."""
        try:
            place = self._place_of("any")
            if (await self._stores.at(place.root)).local_path(place.prefix) is not None:
                return
        except EpisodeflowError as error:
            _log.info("forwarding.off", error=str(error))  # the delivery meets the same, and tells it
            return
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._look(group)
                    await asyncio.sleep(_INTERVAL_S)
        finally:
            self._early.clear()

    def hurry(self, episode_id: str) -> None:
        """Send now what is there of an episode: it has ended."""
        if episode_id in self._early:
            self._early[episode_id].hurry()

    def is_at(self, episode_id: str) -> bool:
        """Return whether images of an episode may still be on their way."""
        return episode_id in self._early

    async def handed_over(self, episode_id: str, place: Place) -> dict[str, int] | None:
        """Send no more of an episode; return the bytes by ``images/{camera}/{name}`` that ``place`` has, None if that is not known."""
        early = self._early.pop(episode_id, None)
        if early is None:
            return None
        await self._stopped(episode_id, early)
        return early.sent if early.place == place else None

    def forget(self, episode_id: str, place: Place) -> None:
        """Forget an episode that is complete in the store.

        Raises:
            Refused, StoreUnavailable: see ``Traces``.
        """
        trace = self._traces.of(episode_id)
        if trace is not None and trace.place == place:
            self._traces.forget(episode_id)

    async def _look(self, group: asyncio.TaskGroup) -> None:
        """Begin with episodes that are new, and end with those that are not being recorded any more."""
        recorded = {name for name in os.listdir(self._recording) if _NAME.match(name)}  # noqa: PTH208 - names are all that is needed
        for episode_id in sorted(recorded - self._early.keys()):
            if not (self._outbox / episode_id).exists():
                self._begin(episode_id, group)
        ended = [episode_id for episode_id in self._early if episode_id not in recorded]
        for episode_id in ended:
            self._early[episode_id].complete()
        discarded = [episode_id for episode_id in ended if not (self._outbox / episode_id).exists()]
        for episode_id in {*discarded, *ended[:-_MOST_REMEMBERED]}:
            early = self._early.get(episode_id)
            if early is not None:
                await self._stopped(episode_id, early)
                self._early.pop(episode_id, None)

    def _begin(self, episode_id: str, group: asyncio.TaskGroup) -> None:
        images = GrowingImages(self._recording / episode_id / "images")
        early = EarlyImages(episode_id, images, place=self._place_of(episode_id), stores=self._stores, traces=self._traces)
        self._early[episode_id] = early
        self._running[episode_id] = group.create_task(early.run())

    async def _stopped(self, episode_id: str, early: EarlyImages) -> None:
        """Return once nothing of an episode is on its way."""
        early.stop()
        running = self._running.pop(episode_id, None)
        if running is None:
            return
        await asyncio.wait({running}, timeout=_IN_HAND_S)
        running.cancel()  # a server that does not answer: whoever needs it next finds that out for itself
        await asyncio.wait({running})
