"""Which episodes have been recorded for a dataset: one durable line for each, so that a resume knows what is on its way.

``datasets/{dataset, quoted}/recorded.jsonl`` in the recorder's folder. A line is written before its episode leaves the
outbox, so journal and outbox together know every episode; one that the store does not take does not count.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from shared.events import Name
from shared.store_file import sync_folder, translated

JOURNAL_FILE = "recorded.jsonl"


class RecordedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """One line: an episode that was saved for a dataset.

    Attributes:
        saved_at: seconds since the epoch.
        dataset_uri: where the dataset lay then; None: an older recorder did not note it.
    """

    episode_id: Name
    source: Name
    dataset: str
    task: str | None
    saved_at: float
    num_frames: int
    dataset_uri: str | None = None


class Journal:
    """The journals of one recorder's folder.

    Args:
        folder: the recorder's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def episodes(self, dataset: str) -> list[RecordedEpisode]:
        """Return what was noted for a dataset, in order, each episode once.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        path = self._path(dataset)
        with translated(str(path)):
            lines = path.read_bytes().splitlines() if path.exists() else []
        found = (_decoded(line) for line in lines)
        return list({(line.source, line.episode_id): line for line in found if line is not None}.values())

    def datasets(self) -> list[str]:
        """Return the names of the datasets that something was noted for.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        folder = self._folder / "datasets"
        with translated(str(folder)):
            return sorted(unquote(path.name) for path in folder.iterdir()) if folder.is_dir() else []

    def note(self, episode: RecordedEpisode) -> None:
        """Add an episode unless it is there; the line is on the disk when this returns.

        Raises:
            DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        known = {(each.source, each.episode_id, each.saved_at) for each in self.episodes(episode.dataset)}
        if (episode.source, episode.episode_id, episode.saved_at) in known:
            return
        path = self._path(episode.dataset)
        with translated(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                # In front of the line too: a line that a power cut has torn must not take this one with it.
                file.write(b"\n" * (file.tell() > 0) + msgspec.json.encode(episode) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(path.parent)

    def _path(self, dataset: str) -> Path:
        return self._folder / "datasets" / quote(dataset, safe="") / JOURNAL_FILE


def _decoded(line: bytes) -> RecordedEpisode | None:
    try:
        return msgspec.json.decode(line, type=RecordedEpisode) if line.strip() else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # torn by a power cut: its episode is still in the outbox
