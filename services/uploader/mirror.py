"""The metadata of a dataset in a bucket, mirrored in a folder of this host, and how it grows by one episode there.

Decides what is sent for a commit and in which order. Does not talk to the bucket. Theory of operation: a bucket has no
renames, so a commit shows file by file, and ``meta/info.json``, sent last, makes it certain. What LeRobot cannot load is a
table without its line in ``episodes.jsonl``, or the line without the table; so these two are sent side by side, after
everything that does no harm by being there early. What an interrupted commit left is cut off here by the totals in
``info.json``, and overwritten there: the next commit has the same number, and with it the same names.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.addition import Addition, NewFile, committed_line, first_addition, next_addition, read_part
from shared.lerobot.commit import Committed
from shared.lerobot.info import read_info
from shared.lerobot.records import decoded_json
from shared.store_file import translated

MIRRORED = (layout.INFO_PATH, layout.TASKS_PATH, layout.EPISODES_PATH, layout.STATS_PATH, layout.PROVENANCE_PATH)
"""The files that a commit reads or extends; ``meta/info.json`` first."""

_NEXT = "next"


class Sending(msgspec.Struct, frozen=True):
    """A file to send: its path in the dataset, and the file of this host that holds the content."""

    path: str
    file: Path


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A commit as files to send, phase after phase; within a phase the order does not matter.

    Attributes:
        committed: where the episode is then.
        phases: the first marks a beginning, the last but one is what LeRobot must see together, the last makes it certain.
    """

    committed: Committed
    phases: tuple[tuple[Sending, ...], ...]

    @property
    def paths(self) -> frozenset[str]:
        """Every path that is sent."""
        return frozenset(sending.path for phase in self.phases for sending in phase)


def growth(part: Path, mirror: Path, *, remote_bytes: dict[str, int]) -> Growth:
    """Return how the mirrored dataset grows by ``part``; no phases if the episode is in.

    Args:
        part: folder of a one-episode dataset.
        mirror: folder with the files of ``MIRRORED`` that the dataset has.
        remote_bytes: sizes of those files in the bucket.

    Raises:
        BadDataset: the part does not fit, is in with another digest, or the dataset's files contradict each other.
        DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """
    arriving = read_part(part)
    shutil.rmtree(mirror / _NEXT, ignore_errors=True)  # of a commit that failed
    if layout.INFO_PATH not in remote_bytes:
        addition = first_addition(arriving)
    else:
        _cut(mirror)
        known = committed_line(mirror, arriving.provenance)
        if known is not None:
            committed = Committed(episode_index=known.episode_index, num_frames=arriving.info.total_frames, already_in=True)
            return Growth(committed=committed, phases=())
        addition = next_addition(arriving, mirror, has_data=False)
    committed = Committed(episode_index=addition.episode_index, num_frames=addition.num_frames, already_in=False)
    phases: dict[int, list[Sending]] = {rank: [] for rank in range(4)}
    for file in addition.files:
        sending = _laid(file, mirror)
        if not _is_same(file, sending, remote_bytes):
            phases[_rank(file.path, addition)].append(sending)
    return Growth(committed=committed, phases=tuple(tuple(phase) for phase in phases.values()))


def adopt(mirror: Path) -> None:
    """Let the files that were sent take the place of the mirrored ones.

    Raises:
        DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """
    with translated(str(mirror)):
        for path in MIRRORED:
            laid = mirror / _NEXT / path
            if laid.exists():
                (mirror / path).parent.mkdir(parents=True, exist_ok=True)
                laid.replace(mirror / path)
    shutil.rmtree(mirror / _NEXT, ignore_errors=True)


def _rank(path: str, addition: Addition) -> int:
    if path == layout.manifest_path(addition.episode_index):
        return 0
    if path == layout.INFO_PATH:
        return 3
    return 2 if path == layout.EPISODES_PATH or path.endswith(".parquet") else 1


def _laid(file: NewFile, mirror: Path) -> Sending:
    """Write what a file will be into the folder of what is sent; a video stays where it is."""
    if file.linked is not None:
        return Sending(file.path, file.linked)
    target = mirror / _NEXT / file.path
    with translated(str(target)):
        target.parent.mkdir(parents=True, exist_ok=True)
        existing = (mirror / file.path).read_bytes() if file.extends and (mirror / file.path).exists() else b""
        newline = b"" if existing.endswith(b"\n") or not existing else b"\n"
        target.write_bytes(existing + newline + file.content)
    return Sending(file.path, target)


def _is_same(file: NewFile, sending: Sending, remote_bytes: dict[str, int]) -> bool:
    """Return whether a file that is extended by nothing lies in the bucket already; what was cut off shows in its size."""
    return file.extends and not file.content and remote_bytes.get(file.path) == sending.file.stat().st_size


def _cut(mirror: Path) -> None:
    """Cut off the lines that ``info.json`` does not speak of: an interrupted commit left them."""
    info = read_info(mirror)
    for path, key, total in (
        (layout.EPISODES_PATH, "episode_index", info.total_episodes),
        (layout.STATS_PATH, "episode_index", info.total_episodes),
        (layout.PROVENANCE_PATH, "episode_index", info.total_episodes),
        (layout.TASKS_PATH, "task_index", info.total_tasks),
    ):
        if (mirror / path).exists():
            _cut_lines(mirror / path, key, total)


def _cut_lines(path: Path, key: str, total: int) -> None:
    with translated(str(path)):
        content = path.read_bytes()
        kept = content
        while kept and _number(kept, key, path) >= total:
            kept = kept[: kept.rstrip(b"\n").rfind(b"\n") + 1]
        if kept != content:
            path.write_bytes(kept)


def _number(content: bytes, key: str, path: Path) -> int:
    """Return what the last line says under ``key``."""
    line = content.rstrip(b"\n").rpartition(b"\n")[2]
    document = decoded_json(line, f"{path} (last line)")
    number = document.get(key) if isinstance(document, dict) else None
    if not isinstance(number, int):
        raise BadDataset(f"{path}: the last line has {key}={number!r}, expected a whole number; restore the file from a backup")
    return number
