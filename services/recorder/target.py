"""The dataset a recording is for: what it holds, what is on its way to it, and whether this recording fits.

Decides what a person is told before anything moves. What is recorded on this host and neither committed nor failed counts as
there: it will be, soon. What was committed once and is not there any more was removed by a person, and does not count. While
the store cannot be reached, what was last seen of the dataset stands for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.recorder.journal import RecordedEpisode
from services.recorder.options import RecordOptions
from services.recorder.recipe import expected_info, video_codec
from shared.errors import BadConfig, BadDataset, LedgerUnavailable, Rejected, StoreUnavailable
from shared.ledger import MARKER_LIFE_S, Ledger
from shared.lerobot.addition import check_compatible
from shared.lerobot.info import Info, decoded_info, encoded_info
from shared.lerobot.state import DatasetState, dataset_state
from shared.places import Place
from shared.store import StorePool
from shared.store_uri import StoreUri, parse_uri

_KNOWN_FOLDER = "known"


class Stranded(msgspec.Struct, frozen=True, kw_only=True):
    """Episodes recorded here for the same dataset when it lay in another place, and not in it yet."""

    uri: str
    num_pending: int


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset as a recording finds it.

    Attributes:
        uri: where it is.
        info: its info.json; None if it has no episode yet.
        num_pending: episodes recorded on this host that are not in it yet.
        is_remembered: the store could not be asked, this is what was seen last.
        stranded: what is on its way to another place than this one.
    """

    uri: str
    info: Info | None
    num_pending: int = 0
    is_remembered: bool = False
    stranded: tuple[Stranded, ...] = ()

    @property
    def num_committed(self) -> int:
        """Episodes that are in it."""
        return self.info.total_episodes if self.info else 0

    @property
    def num_there(self) -> int:
        """Episodes that are in it or on their way."""
        return self.num_committed + self.num_pending

    @property
    def codec(self) -> str | None:
        """The codec that its videos have, None where there is none yet."""
        return video_codec(self.info) if self.info else None

    @property
    def summary(self) -> str:
        """Episodes, frames and tasks in words, and what is on its way."""
        info = self.info
        text = f"{self.num_committed} episodes, {info.total_frames if info else 0} frames, {info.total_tasks if info else 0} tasks"
        return text if not self.num_pending else f"{text}; {self.num_pending} more recorded here are on their way"


async def find_target(
    place: Place, recorded: Sequence[RecordedEpisode], *, stores: StorePool, ledger: Ledger, folder: Path, repo_id: str
) -> Target:
    """Return what a dataset holds.

    Args:
        place: of the dataset.
        recorded: what this host has recorded for it so far.
        stores: opens the place.
        ledger: knows which episodes failed; where it is away, they count as on their way.
        folder: of the recorder; keeps what was seen of the dataset.
        repo_id: its name.

    Raises:
        BadDataset: something else lies there.
        Refused, BadConfig: the store may not be read.
    """
    known_path = folder / _KNOWN_FOLDER / f"{repo_id}.json"
    recorded_for = {uri: [each for each in recorded if (each.dataset_uri or place.uri) == uri] for uri in _uris(recorded, place)}
    stranded = tuple(
        [
            Stranded(uri=uri, num_pending=num_pending)
            for uri, episodes in recorded_for.items()
            if uri != place.uri and (num_pending := await _num_stranded(uri, episodes, stores=stores, ledger=ledger))
        ]
    )
    try:
        info, num_pending = await _found(place, recorded_for[place.uri], stores=stores, ledger=ledger)
    except StoreUnavailable:
        known = _remembered(known_path)
        num_pending = _num_after(known, recorded_for[place.uri])
        return Target(uri=place.uri, info=known, num_pending=num_pending, is_remembered=True, stranded=stranded)
    _remember(known_path, info)
    return Target(uri=place.uri, info=info, num_pending=num_pending, stranded=stranded)


def _uris(recorded: Sequence[RecordedEpisode], place: Place) -> list[str]:
    return list(dict.fromkeys([place.uri, *(each.dataset_uri for each in recorded if each.dataset_uri)]))


async def _found(place: Place, recorded: Sequence[RecordedEpisode], *, stores: StorePool, ledger: Ledger) -> tuple[Info | None, int]:
    """Return a dataset's info.json and how many of the recorded episodes are on their way to it."""
    store = await stores.at(place.root)
    missing = _not_in(recorded, await dataset_state(store, place.prefix))
    open_episodes = [episode for episode in missing if not await _is_settled(ledger, episode, now_s=time.time())]
    # Once more: what was committed in between is in the dataset now.
    state = await dataset_state(store, place.prefix)
    return (state.info if state else None), len(_not_in(open_episodes, state))


async def _num_stranded(uri: str, recorded: Sequence[RecordedEpisode], *, stores: StorePool, ledger: Ledger) -> int:
    """Return how many episodes are on their way to another place; where that cannot be read, only the ledger is asked."""
    try:
        _, num_pending = await _found(place_of(uri), recorded, stores=stores, ledger=ledger)
    except (StoreUnavailable, Rejected):
        return len([episode for episode in recorded if not await _is_settled(ledger, episode, now_s=time.time())])
    return num_pending


def place_of(uri: str) -> Place:
    """Return a dataset's place from its address as it was noted."""
    parsed = parse_uri(uri)
    return Place(str(StoreUri(parsed.scheme, parsed.root)), parsed.prefix)


def check_target(options: RecordOptions, target: Target, *, codec: str, is_either: bool = False) -> None:
    """Refuse a recording that does not fit the dataset.

    Args:
        options: the recording.
        target: the dataset.
        codec: that the recording's videos will have.
        is_either: begin the dataset or go on with it, whatever it takes.

    Raises:
        BadConfig: it is there and nobody said resume, or the other way round; or what was recorded for it goes elsewhere.
        BadDataset: fps, robot type or features differ; both sides are named.
    """
    dataset = options.dataset
    for stranded in target.stranded:
        raise BadConfig(f"--dataset.repo_id={dataset.repo_id}", "", stranded_sentence(stranded, wanted=target.uri))
    if target.num_there and not dataset.resume and not is_either:
        raise BadConfig(
            f"--dataset.repo_id={dataset.repo_id}",
            "",
            f"the dataset is there already ({target.uri}: {target.summary}): "
            "add --dataset.resume=true to go on with it, or choose another name",
        )
    if dataset.resume and not target.num_there and not target.is_remembered and not is_either:
        raise BadConfig(
            "--dataset.resume=true",
            "",
            f"there is nothing to resume, {target.uri} has no dataset: leave it away to begin {dataset.repo_id}, or correct the name",
        )
    if target.info:
        check_compatible(target.info, expected_info(options, codec=codec))


def stranded_sentence(stranded: Stranded, *, wanted: str) -> str:
    """Return why nothing can be recorded for a place while episodes are on their way to another, and what to do."""
    return (
        f"{stranded.num_pending} episodes recorded here for it are still on their way to {stranded.uri}, and this recording would go to "
        f"{wanted}: record there once more with --dataset.resume=true and --dataset.root (or HF_LEROBOT_HOME) as it was, "
        "which brings them in, or choose another name"
    )


def _not_in(episodes: Sequence[RecordedEpisode], state: DatasetState | None) -> list[RecordedEpisode]:
    committed = state.committed if state else frozenset()
    return [episode for episode in episodes if (episode.source, episode.episode_id) not in committed]


async def _is_settled(ledger: Ledger, episode: RecordedEpisode, *, now_s: float) -> bool:
    """Say whether nothing more will come of an episode: it failed, or it was committed (and perhaps removed by a person since)."""
    try:
        states = (await ledger.states(episode.source, episode.episode_id)).values()
    except LedgerUnavailable:
        return False
    is_forgotten = not states and now_s - episode.saved_at > MARKER_LIFE_S
    return is_forgotten or "failed" in states or "completed" in states


def _num_after(known: Info | None, recorded: Sequence[RecordedEpisode]) -> int:
    """Return how many recorded episodes a remembered dataset cannot have had; it only grows."""
    return max(0, len(recorded) - (known.total_episodes if known else 0))


def _remember(path: Path, info: Info | None) -> None:
    if info is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded_info(info))


def _remembered(path: Path) -> Info | None:
    try:
        return decoded_info(path.read_bytes(), place=str(path))
    except (FileNotFoundError, BadDataset):
        return None
