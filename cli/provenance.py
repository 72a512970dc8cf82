"""Where the raw episodes of a dataset's manifests lie below one folder, for `episodeflow check --provenance --raw`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from services.converter.assignment import RawEpisode
from services.converter.raw import find_episodes
from shared.errors import BadRaw
from shared.lerobot.provenance import RawFolders, Verification, verify_provenance


def verified(dataset: Path, raw: Path | None) -> Verification:
    """Return what is not as the manifests say.

    Args:
        dataset: its folder.
        raw: folder with raw episodes in either layout, all together or each source's in a folder of its own; None: not looked at.

    Raises:
        BadRaw: ``raw`` holds no raw episode.
        BadDataset: there is no dataset.
    """
    if raw is None:
        return verify_provenance(dataset)
    together = _episodes(raw)
    of_source = cache(lambda source: _episodes(raw / source))
    if not together and not any(_episodes(folder) for folder in (raw.iterdir() if raw.is_dir() else ()) if folder.is_dir()):
        raise BadRaw(str(raw), "holds no raw episode: give the folder with joints/{task}/{episode} or {episode}/joints below it")

    def find(source: str, episode_id: str) -> RawFolders | None:
        found = of_source(source).get(episode_id) or together.get(episode_id)
        return RawFolders(joints=found.joints, images=found.images) if found else None

    return verify_provenance(dataset, raw=find)


def _episodes(folder: Path) -> dict[str, RawEpisode]:
    try:
        return find_episodes(folder, folder)
    except BadRaw:
        return {}
