"""The converter: bring a raw episode here, convert it in a process of its own, leave the dataset in the spool.

Its place in the spool follows from what it is (source, episode, strategy, digest), and it appears there by one rename.
A message that comes twice therefore ends at the same folder with the same bytes, whoever converts it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from services.converter.assignment import Assignment, Converted, RawEpisode
from services.converter.download import local_episode
from services.converter.files import listing
from services.converter.limits import Limits
from services.converter.raw import find_episodes, list_frames
from services.converter.worker import convert_in_process
from services.converter.workspace import Workspace
from shared import logs
from shared.config import StrategyConfig, decode_strategy
from shared.consumer import Delivery
from shared.errors import BadEvent, BadRaw
from shared.events import EpisodeConverted, EpisodeReady, Name, Strategy
from shared.ledger import Ledger
from shared.places import LocalFolders, Places
from shared.progress import ProgressReporter
from shared.settings import merged
from shared.store import StorePool
from shared.store_file import sync_folder, translated

_log = logs.logger("converter")

_DIGEST_DIGITS = 16
_NUM_RENAMES = 10


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """The folder that converters and one uploader share, and the name it goes by."""

    name: Name
    folder: Path


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The strategy file, and the strategy used when an event names none (None: the file's)."""

    document: dict[str, Any]
    place: str
    strategy: Strategy | None

    def config(self, event: EpisodeReady) -> StrategyConfig:
        """Return the configuration of one episode: the file, the event's strategy, the event's overrides.

        Raises:
            BadConfig: an override is wrong.
            BadEvent: an override tries to move input or output.
        """
        changed = merged({}, event.config_overrides)
        output = changed.get("output", {})
        if "input" in changed or not isinstance(output, dict) or set(output) - {"state_keys"}:
            raise BadEvent("config_overrides names input or output: an event may change how an episode is converted, not where files are")
        strategy = event.strategy or self.strategy
        chosen = {"alignment.strategy": strategy} if strategy else {}
        return decode_strategy(self.document, place=self.place, overrides={**chosen, **event.config_overrides})


class Converter:
    """Handles ``episode.ready``.

    Args:
        ledger: told of converted episodes.
        stores: opens the places of raw episodes.
        places: where raw episodes are.
        recipe: how they are converted.
        spool: where datasets are left.
        downloads: workspace for raw episodes from a store.
        parts: workspace for datasets that are being made, on the spool's file system.
        batch_size: objects fetched at once.
        limits: what the process of one episode may use; None: as much as there is.
        progress: told how far each episode is; None: nobody is.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        stores: StorePool,
        places: Places,
        recipe: Recipe,
        spool: Spool,
        downloads: Workspace,
        parts: Workspace,
        batch_size: int,
        limits: Limits | None = None,
        progress: ProgressReporter | None = None,
    ) -> None:
        self._ledger = ledger
        self._stores = stores
        self._places = places
        self._recipe = recipe
        self._spool = spool
        self._downloads = downloads
        self._parts = parts
        self._batch_size = batch_size
        self._limits = limits or Limits()
        self._progress = progress or ProgressReporter(None, worker="converter")

    async def handle(self, delivery: Delivery[EpisodeReady]) -> EpisodeConverted:
        """Convert one episode and return the event that says where it lies.

        Raises:
            BadEvent, BadConfig: the event or its overrides are wrong.
            BadRaw, Filtered: the raw episode is wrong, or is held back.
            StoreUnavailable, Refused, DiskFull, WorkerCrashed: see the modules that do the work.
        """
        event = delivery.event
        config = self._recipe.config(event)
        async with self._progress.reporting(event, "fetching") as report, self._raw(event, config) as raw:
            report.converting(lambda: _num_frames(raw, config))
            assignment = Assignment(
                source=event.source, episode_id=event.episode_id, raw=raw, config=config, folder=self._parts.new_folder(), task=event.task
            )
            converted = await convert_in_process(
                assignment, report.add, on_start=lambda started_s: _log_start(delivery, started_s), limits=self._limits
            )
        strategy = config.alignment.strategy
        path = f"{event.source}/{event.episode_id}_{strategy}/{converted.digest.partition(':')[2][:_DIGEST_DIGITS]}"
        await asyncio.to_thread(_spooled, assignment.folder, self._spool.folder / path)
        await self._ledger.note(event.source, event.episode_id, strategy=strategy, state="converted", token=converted.digest)
        return _converted_event(event, strategy, converted, spool=self._spool.name, path=path)

    @asynccontextmanager
    async def _raw(self, event: EpisodeReady, config: StrategyConfig) -> AsyncIterator[RawEpisode]:
        """Give the raw episode as folders of this host, and remove what had to be downloaded."""
        place = self._places.raw(event)
        if isinstance(place, LocalFolders):
            yield await asyncio.to_thread(_found, place, event.episode_id)
            return
        store = await self._stores.at(place.root)
        folder = self._downloads.new_folder()
        try:
            yield await local_episode(store, place, episode_id=event.episode_id, config=config, folder=folder, batch_size=self._batch_size)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _found(folders: LocalFolders, episode_id: str) -> RawEpisode:
    data_path, images_path = Path(folders.data_path), Path(folders.images_path)
    episodes = find_episodes(data_path, images_path)
    if episode_id not in episodes:
        raise BadRaw(folders.data_path, f"holds no episode {episode_id} (found {listing(episodes)})")
    # A path into the joints finds the images beside them, up to two folders above.
    return msgspec.structs.replace(episodes[episode_id], roots=(data_path, images_path, *data_path.parents[:2]))


def _num_frames(raw: RawEpisode, config: StrategyConfig) -> int:
    """Estimate the frames to encode; a defect is found by the conversion, with its sentence."""
    try:
        frames = list_frames(raw, config.base_camera.name)
    except (BadRaw, OSError):
        return 0
    return len(frames.names) * len(config.cameras) if frames else 0


def _spooled(part: Path, target: Path) -> None:
    """Let the part appear in the spool, durable before anybody is told; one that is there already is the same."""
    with translated(str(target)):
        if target.exists():
            shutil.rmtree(part, ignore_errors=True)
            return
        for path in sorted(part.rglob("*")):
            if path.is_file():
                with path.open("rb") as opened:
                    os.fsync(opened.fileno())
        for folder in (*(path for path in part.rglob("*") if path.is_dir()), part):
            sync_folder(folder)
        _renamed(part, target)


def _renamed(part: Path, target: Path) -> None:
    """Rename ``part`` to ``target``, whose parents the uploader removes whenever they are empty."""
    for is_last in (False,) * _NUM_RENAMES + (True,):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            part.rename(target)
            sync_folder(target.parent)
            return
        except OSError as error:
            if target.exists():
                shutil.rmtree(part, ignore_errors=True)
                return
            if is_last or not isinstance(error, FileNotFoundError) or not part.exists():
                raise


def _converted_event(event: EpisodeReady, strategy: Strategy, converted: Converted, *, spool: str, path: str) -> EpisodeConverted:
    fields = {name: getattr(event, name) for name in EpisodeReady.__struct_fields__}
    return EpisodeConverted(
        **{**fields, "strategy": strategy},
        spool=spool,
        path=path,
        frames=converted.frames,
        duration_s=converted.duration_s,
        num_bytes=converted.num_bytes,
        digest=converted.digest,
    )


def _log_start(delivery: Delivery[EpisodeReady], started_s: float) -> None:
    """Say how long the event had been on the stream when the conversion's process began."""
    _log.info(
        "conversion.started",
        source=delivery.event.source,
        episode_id=delivery.event.episode_id,
        attempt=delivery.attempt,
        delay_s=round(started_s - delivery.timestamp_s, 4),
    )
