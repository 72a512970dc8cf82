"""Episodes of this host that may still be on their way: where the datasets lay for which they were recorded.

A stack of our own puts them there, whatever the place of the dataset that is recorded now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

from cli.embedding import datasets_root
from services.recorder.journal import RecordedEpisode
from services.recorder.options import DatasetOptions
from services.recorder.saving.outbox import noted_episodes, recorded_episodes
from services.recorder.target import find_target, place_of
from shared.config import BosConfig
from shared.entry import Loaded
from shared.errors import BadDataset, Refused, StoreUnavailable
from shared.ledger import Ledger
from shared.lerobot.state import dataset_state
from shared.store import StorePool
from shared.store_uri import parse_uri

RECORDERS = "recorder"
"""Folder of the recorders' folders below the state folder."""


def wanted_folder(dataset: DatasetOptions, environ: Mapping[str, str]) -> Path:
    """Return the folder in which a dataset shall lie: its own one, or where LeRobot keeps it."""
    return Path(dataset.root).expanduser().absolute() if dataset.root else datasets_root(environ) / dataset.repo_id


async def pending_folders(state: Path) -> dict[str, Path]:
    """Return the folders of the datasets that an episode of this host is not in yet, by name; a failed one counts, too.

    Args:
        state: the state folder.

    Raises:
        Refused, StoreUnavailable: what was noted cannot be read.
    """
    found: dict[str, Path] = {}
    for (dataset, uri), episodes in _by_place(await asyncio.to_thread(_noted, state)).items():
        if parse_uri(uri).scheme == "file" and not await _are_in(uri, episodes):
            found[dataset] = Path(parse_uri(uri).root)
    return found


async def num_pending(state: Path, loaded: Loaded, repo_id: str) -> int:
    """Return how many episodes of all robots of this host are on their way to a dataset in its present place.

    Args:
        state: the state folder.
        loaded: the configuration of running servers.
        repo_id: the dataset's name.

    Raises:
        EpisodeflowError: see ``services.recorder.target.find_target``.
    """
    total = 0
    async with StorePool(loaded.storage.bos) as stores, Ledger(loaded.storage.redis) as ledger:
        for folder in recorder_folders(state):
            recorded = await asyncio.to_thread(recorded_episodes, folder, repo_id)
            place = loaded.places().dataset(repo_id)
            target = await find_target(place, recorded, stores=stores, ledger=ledger, folder=folder, repo_id=repo_id)
            total += target.num_pending
    return total


def recorder_folders(state: Path) -> list[Path]:
    """Return the folders of the recorders that have been used with a state folder, one for each robot."""
    return sorted(path for path in (state / RECORDERS).glob("*") if path.is_dir())


def _noted(state: Path) -> list[RecordedEpisode]:
    return [episode for folder in recorder_folders(state) for episode in noted_episodes(folder)]


def _by_place(noted: Iterable[RecordedEpisode]) -> dict[tuple[str, str], list[RecordedEpisode]]:
    by_place: dict[tuple[str, str], list[RecordedEpisode]] = {}
    for episode in noted:
        if episode.dataset_uri is not None:
            by_place.setdefault((episode.dataset, episode.dataset_uri), []).append(episode)
    return by_place


async def _are_in(uri: str, episodes: Iterable[RecordedEpisode]) -> bool:
    """Say whether a dataset holds all these episodes."""
    place = place_of(uri)
    try:
        async with StorePool(BosConfig()) as stores:
            state = await dataset_state(await stores.at(place.root), place.prefix)
    except (BadDataset, Refused, StoreUnavailable):
        return False
    committed = state.committed if state else frozenset()
    return all((episode.source, episode.episode_id) in committed for episode in episodes)
