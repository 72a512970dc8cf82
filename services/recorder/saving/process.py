"""The life of the saver's process: takes episodes from its parent, saves them one by one, delivers them beside that.

Images of an episode that goes to a bucket are sent while it is being recorded. It ends when its parent closes the pipe or dies:
the episodes it has in hand are saved first, what is not delivered yet waits in the outbox for the next start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from services.recorder.saving import channel, writer
from services.recorder.saving.delivery import Delivery, raw_place
from services.recorder.saving.episode import FinishedEpisode
from services.recorder.saving.forwarding import Forwarding
from services.recorder.saving.news import FromSaver, Lost, Ready, Saved, Unsaved
from services.recorder.saving.outbox import Outbox
from services.recorder.saving.strays import Strays
from shared import logs
from shared.entry import Loaded
from shared.errors import BadConfig, EpisodeflowError, Rejected, Retryable
from shared.events import EpisodeReady
from shared.store import Patience, StorePool

_log = logs.logger("saver")

SYNC_INTERVAL_S = 2.0
ORPHANED_SIGNAL = signal.SIGUSR1
"""Sent by the kernel when the parent died: another of its children may have inherited our pipe and keep it open."""

_PATIENCE = Patience(read_timeout_s=20.0, max_attempts=2)
"""For one request to the store: whoever waits at the robot wants to know soon that it is away; we try on."""

_PARTING_S = 3.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0

Request = tuple[FinishedEpisode, str]


class SaverProcess:
    """One run of the saver.

    Args:
        loaded: the configuration.
        outbox: the recorder's folder.
        source: under which name it records.
        stores: opened as needed.
        tell: takes the news.
    """

    def __init__(self, loaded: Loaded, outbox: Outbox, *, source: str, stores: StorePool, tell: Callable[[FromSaver], None]) -> None:
        places = loaded.places()
        self._outbox = outbox
        self._tell = tell
        self._forwarding = Forwarding(
            outbox.folder, stores=stores, place_of=lambda name: raw_place(places, EpisodeReady(episode_id=name, source=source))
        )
        self._strays = Strays(outbox.folder, stores=stores, is_being_sent=self._forwarding.is_at)
        self._delivery = Delivery(loaded, outbox, tell, stores=stores, forwarding=self._forwarding)

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Save and deliver until the reader ends."""
        for parcel in await asyncio.to_thread(self._outbox.parcels):
            self._delivery.add(parcel)
        await asyncio.to_thread(writer.warm_up)
        self._tell(Ready())
        requests: asyncio.Queue[Request | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as group:
            deeds = (self._delivery.run(), self._sync_ahead(), self._forwarding.run(), self._strays.run())
            beside = [group.create_task(deed) for deed in deeds]
            group.create_task(_read(reader, requests))
            while (request := await requests.get()) is not None:
                await self._save(*request)
            for task in beside:
                task.cancel()
        with suppress(TimeoutError, EpisodeflowError):  # what is left is removed by the next recorder
            async with asyncio.timeout(_PARTING_S):
                await self._strays.remove()

    async def _save(self, finished: FinishedEpisode, nonce: str) -> None:
        """Save an episode, however long the disk has no room for it."""
        episode_id = finished.event.episode_id
        self._forwarding.hurry(episode_id)
        pause_s, is_told = _FIRST_PAUSE_S, False
        while True:
            started_s = time.monotonic()
            try:
                parcel, num_bytes = await asyncio.to_thread(self._outbox.save, finished, nonce)
            except Rejected as error:
                self._tell(Lost(episode_id=episode_id, sentence=str(error)))
                return
            except Retryable as error:
                if not is_told:
                    self._tell(Unsaved(episode_id=episode_id, sentence=str(error)))
                    is_told = True
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                duration_s = round(time.monotonic() - started_s, 4)
                # Counted before it is reported, so that it waits somewhere at any time; delivered after we return to the loop.
                self._delivery.add(parcel)
                self._tell(Saved(episode_id=episode_id, num_bytes=num_bytes, duration_s=duration_s))
                return

    async def _sync_ahead(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL_S)
            await asyncio.to_thread(self._outbox.sync_ahead)


async def serve(loaded: Loaded, folder: Path, *, source: str, is_first: bool, descriptors: tuple[int, int]) -> None:
    """Run the saver on two pipes until the first one ends.

    Args:
        loaded: the configuration.
        folder: the recorder's.
        source: under which name it records.
        is_first: remove what an earlier recorder was recording.
        descriptors: of the pipe from the parent and of the one to it.

    Raises:
        BadConfig, BadEvent: the source has no place to record to.
        DiskFull, Refused, StoreUnavailable: the folder cannot be used.
    """
    reading, telling = descriptors

    def tell(news: FromSaver) -> None:
        try:
            channel.send_news(telling, news)
        except BrokenPipeError:
            _log.info("saver.orphaned")  # the work in hand goes on, nobody needs to hear of it

    places = loaded.places()

    def dataset_uri(name: str) -> str | None:
        try:
            return places.dataset(name).uri
        except BadConfig:
            return None  # nowhere: no reason to lose an episode

    raw_place(places, EpisodeReady(episode_id="check", source=source))
    outbox = Outbox(folder, dataset_uri=dataset_uri)
    try:
        for removed in outbox.sweep() if is_first else []:
            tell(removed)
        async with StorePool(loaded.storage.bos, patience=_PATIENCE) as stores:
            await SaverProcess(loaded, outbox, source=source, stores=stores, tell=tell).run(await _pipe(reading))
    finally:
        outbox.close()


async def _read(reader: asyncio.StreamReader, requests: asyncio.Queue[Request | None]) -> None:
    request: Request | None = None
    while (request := await channel.receive_request(reader)) is not None:
        requests.put_nowait(request)
    requests.put_nowait(None)


async def _pipe(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(ORPHANED_SIGNAL, reader.feed_eof)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb"))
    return reader
