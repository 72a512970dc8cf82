"""Objects of episodes that will never be complete: what was sent ahead of a discarded or cut off episode leaves the store again.

An episode that has a trace but is neither being recorded nor in the outbox is one. Its trace stays until its objects are gone,
so a store that is away is asked again later, also by the next recorder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from services.recorder.saving.traces import Trace, Traces
from services.recorder.saving.transfer import METADATA_KEY
from shared import logs
from shared.errors import EpisodeflowError
from shared.store import StorePool

_log = logs.logger("strays")

_INTERVAL_S = 1.0
_LONGEST_PAUSE_S = 60.0


class Strays:
    """Removes strays.

    Args:
        folder: the recorder's.
        stores: opened as needed.
        is_being_sent: whether objects of an episode may still be on their way.
    """

    def __init__(self, folder: Path, *, stores: StorePool, is_being_sent: Callable[[str], bool]) -> None:
        self._recording, self._outbox = folder / "recording", folder / "outbox"
        self._traces = Traces(folder)
        self._stores = stores
        self._is_being_sent = is_being_sent

    async def run(self) -> None:
        """Remove what there is and what comes, until cancelled."""
        pause_s = _INTERVAL_S
        while True:
            try:
                await self.remove()
            except EpisodeflowError as error:
                if pause_s == _INTERVAL_S:
                    _log.info("strays.left", error=str(error))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s = _INTERVAL_S
            await asyncio.sleep(pause_s)

    async def remove(self) -> None:
        """Remove what there is.

        Raises:
            StoreUnavailable, Refused, BadConfig: what is left is removed another time.
        """
        for trace in await asyncio.to_thread(self._traces.all):
            if await asyncio.to_thread(self._is_stray, trace) and not self._is_being_sent(trace.episode_id):
                await self._removed(trace)

    def _is_stray(self, trace: Trace) -> bool:
        """Look in the order in which an episode moves, so that it is not missed on its way; its trace goes before it leaves the outbox."""
        places = (self._recording / trace.episode_id, self._outbox / trace.episode_id)
        return not any(place.exists() for place in places) and self._traces.of(trace.episode_id) == trace

    async def _removed(self, trace: Trace) -> None:
        store = await self._stores.at(trace.root)
        num_objects = 0
        # Complete there, and only its trace came back after a power cut: then it is nobody's to remove.
        if await store.head(f"{trace.prefix}{METADATA_KEY}") is None:
            num_objects = await store.delete_prefix(trace.prefix)
        await asyncio.to_thread(self._traces.forget, trace.episode_id)
        _log.info("episode.unsent", episode_id=trace.episode_id, num_files=num_objects)
