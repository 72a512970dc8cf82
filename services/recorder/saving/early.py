"""The images of one episode on their way to a bucket while it is being recorded.

An image that cannot be sent now is sent later: an outage is nobody's news as long as nothing is finished. What the store has
acknowledged is kept with its size, for the delivery to compare.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress

from services.recorder.saving.crew import work_together
from services.recorder.saving.growing import GrowingImages
from services.recorder.saving.traces import Trace, Traces
from shared import logs
from shared.errors import EpisodeflowError
from shared.places import Place
from shared.store import Store, StorePool
from shared.store_file import translated

_log = logs.logger("early")

_IN_FLIGHT = 4
"""Measured: two are the most that a server on the same host takes; four carry 100 images a second over a line of 40 ms."""

_INTERVAL_S = 0.1
_LISTING_SHARE = 0.05
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0


class EarlyImages:
    """One episode's images.

    Args:
        episode_id: whose they are.
        images: where they come in; closed at the end of ``run``.
        place: the episode's own folder in the store.
        stores: opened as needed.
        traces: where the episode is noted before anything is sent.

    Attributes:
        place: as above.
        sent: bytes by ``images/{camera}/{name}`` that the store has; None until the place is known to be ours.
    """

    def __init__(self, episode_id: str, images: GrowingImages, *, place: Place, stores: StorePool, traces: Traces) -> None:
        self.place = place
        self.sent: dict[str, int] | None = None
        self._episode_id = episode_id
        self._images = images
        self._stores = stores
        self._traces = traces
        self._waiting: deque[str] = deque()
        self._hurry = asyncio.Event()
        self._is_complete = self._is_stopped = False

    async def run(self) -> None:
        """Send until everything of a completed episode is sent, or nothing more is wanted."""
        pause_s = _FIRST_PAUSE_S
        try:
            while not self._is_stopped:
                is_last = self._is_complete
                try:
                    interval_s = await self._round()
                except EpisodeflowError as error:
                    if pause_s == _FIRST_PAUSE_S:
                        _log.info("forwarding.paused", episode_id=self._episode_id, error=str(error))
                    interval_s, pause_s = pause_s, min(2 * pause_s, _LONGEST_PAUSE_S)
                else:
                    pause_s = _FIRST_PAUSE_S
                    if is_last:
                        return
                await self._until_next(interval_s)
        finally:
            self._images.close()

    def hurry(self) -> None:
        """Send now what is there."""
        self._hurry.set()

    def complete(self) -> None:
        """Expect no image after those that are there."""
        self._is_complete = True

    def stop(self) -> None:
        """Begin to send no further image."""
        self._is_stopped = True
        self._hurry.set()

    async def _until_next(self, interval_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(interval_s):
                await self._hurry.wait()
        self._hurry.clear()

    async def _round(self) -> float:
        """Send what is new; return after how many seconds to look again."""
        store = await self._stores.at(self.place.root)
        if self.sent is None:
            self.sent = await self._found(store)
        if self.sent is None:
            self._is_stopped = True  # somebody else's folder: the delivery tells that
            return 0.0
        started_s = time.monotonic()
        with translated(f"the images of {self._episode_id}"):
            # Few milliseconds, and not in a thread: nobody may close the folders meanwhile.
            new = self._images.new()
        listing_s = time.monotonic() - started_s
        self._waiting.extend(image for image in new if f"images/{image}" not in self.sent)
        sent = self.sent
        await work_together(lambda: self._send(store, sent), num_workers=min(_IN_FLIGHT, len(self._waiting)))
        return max(_INTERVAL_S, listing_s / _LISTING_SHARE)

    async def _found(self, store: Store) -> dict[str, int] | None:
        """Return what is in the store of an episode that has a trace; note one for a place that is empty; None if it is not."""
        trace = await asyncio.to_thread(self._traces.of, self._episode_id)
        prefix = self.place.prefix
        if trace is not None and trace.place == self.place:
            return {info.key.removeprefix(prefix): info.size_bytes async for info in store.list(f"{prefix}images/")}
        async for _ in store.list(prefix):
            return None
        trace = Trace(episode_id=self._episode_id, root=self.place.root, prefix=prefix)
        await asyncio.to_thread(self._traces.note, trace)
        return {}

    async def _send(self, store: Store, sent: dict[str, int]) -> None:
        while self._waiting and not self._is_stopped:
            image = self._waiting.popleft()
            is_done = False
            try:
                await self._send_one(store, image, sent)
                is_done = True
            finally:
                if not is_done:
                    self._waiting.appendleft(image)

    async def _send_one(self, store: Store, image: str, sent: dict[str, int]) -> None:
        with translated(image):
            body = self._images.read(image)
        if body is not None:
            await store.put_bytes(body, f"{self.place.prefix}images/{image}")
            sent[f"images/{image}"] = len(body)
