"""Which episodes may have objects in a store before they are complete: one durable file for each, written before the first object.

``sent_ahead/{episode_id}.json`` in the recorder's folder. It goes when the episode is complete in the store, or when its objects
are removed from there: whatever dies in between, somebody knows what is left over.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from shared.events import Name
from shared.places import Place
from shared.store_file import translated, write_file

_FOLDER = "sent_ahead"
_SUFFIX = ".json"


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """An episode of which images were sent while it was being recorded; ``root`` and ``prefix`` are its place in the store."""

    episode_id: Name
    root: str
    prefix: str

    @property
    def place(self) -> Place:
        """The episode's own folder in the store."""
        return Place(self.root, self.prefix)


class Traces:
    """The traces of one recorder.

    Args:
        folder: the recorder's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / _FOLDER

    def all(self) -> list[Trace]:
        """Return what is noted, sorted by name; a file that is none of ours is left alone.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        with translated(str(self._folder)):
            names = sorted(os.listdir(self._folder)) if self._folder.is_dir() else []  # noqa: PTH208 - names are all that is needed
        found = (self.of(name.removesuffix(_SUFFIX)) for name in names if name.endswith(_SUFFIX) and not name.startswith("."))
        return [trace for trace in found if trace is not None]

    def of(self, episode_id: str) -> Trace | None:
        """Return the trace of an episode, or None.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        path = self._path(episode_id)
        with translated(str(path)):
            try:
                return msgspec.json.decode(path.read_bytes(), type=Trace)
            except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
                return None

    def note(self, trace: Trace) -> None:
        """Keep a trace; it is on the disk when this returns.

        Raises:
            DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        write_file(self._path(trace.episode_id), lambda file: file.write(msgspec.json.encode(trace)))

    def forget(self, episode_id: str) -> None:
        """Remove a trace; one that comes back after a power cut does no harm: what is complete in the store stays there.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        path = self._path(episode_id)
        with translated(str(path)):
            path.unlink(missing_ok=True)

    def _path(self, episode_id: str) -> Path:
        return self._folder / f"{episode_id}{_SUFFIX}"
