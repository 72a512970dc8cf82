"""Committing a part into a dataset: numbered, crash-safe, once.

Theory of operation. Everything slow (reading, renumbering, copying, fsync) happens below ``{dataset}/.episodeflow/
staging``, under names LeRobot does not count. Then one journal names every staged file and its place; from the moment
it is on the disk the commit is certain. What follows is a row of renames, ``meta/info.json`` last, and the journal is
removed. ``recover`` finishes a journaled commit and throws unjournaled staging away; each of its steps may be repeated.
A dataset that is not there yet is built beside its place and appears by one rename of its folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.addition import Addition, Part, committed_line, first_addition, next_addition, read_part
from shared.lerobot.disk import Disk, locked

_LOCK = f"{layout.STATE_FOLDER}/lock"
_STAGING = f"{layout.STATE_FOLDER}/staging"
_JOURNAL = f"{layout.STATE_FOLDER}/journal.json"
_JOURNAL_DRAFT = f"{layout.STATE_FOLDER}/journal.draft"


class Committed(msgspec.Struct, frozen=True, kw_only=True):
    """Where an episode is in its dataset; ``already_in``: it was there before, nothing changed."""

    episode_index: int
    num_frames: int
    already_in: bool


class _Move(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A staged file and its place, both relative to the dataset."""

    staged: str
    path: str


class _Journal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The renames of one commit, in order."""

    moves: tuple[_Move, ...]


def commit(part: Path, dataset: Path, *, disk: Disk | None = None, before_certain: Callable[[], None] | None = None) -> Committed:
    """Append a one-episode part to a dataset; the part stays as it is.

    Commits of processes on one host wait for each other. Videos are hard-linked (copied across file systems).

    Args:
        part: folder of a complete one-episode dataset (``write_part``).
        dataset: folder of the dataset; it is created if it is absent or an empty folder.
        disk: makes the changes.
        before_certain: called right before the step from which the commit is certain; what it raises abandons the commit.

    Raises:
        BadDataset: the part does not fit, is in with another digest, or either side is no sound dataset.
        DiskFull: no room; the dataset is as it was.
    """
    disk = disk or Disk()
    before_certain = before_certain or _permitted
    arriving = read_part(part)
    dataset = dataset.absolute()
    disk.make_folder(dataset.parent)
    if not _is_there(dataset):
        created = _create(arriving, dataset, disk, before_certain)
        if created is not None:
            return created
    return _append(arriving, dataset, disk, before_certain)


def recover(dataset: Path, *, disk: Disk | None = None) -> bool:
    """Finish or undo what an interrupted commit left; return whether an episode became visible by it.

    Raises:
        BadDataset: the journal cannot be read, or names files that are neither staged nor in place.
    """
    disk = disk or Disk()
    dataset = dataset.absolute()
    if not _is_there(dataset):
        if dataset.parent.is_dir():
            with locked(dataset.parent):
                disk.remove_folder(_cradle(dataset))
        return False
    if not (dataset / layout.STATE_FOLDER).is_dir():
        return False
    with locked(dataset / _LOCK):
        return _recover(dataset, disk)


def _permitted() -> None:
    """Let every commit become certain: nobody has a say in it."""


def _is_there(dataset: Path) -> bool:
    return dataset.exists() and (not dataset.is_dir() or any(dataset.iterdir()))


def _cradle(dataset: Path) -> Path:
    """Return the folder beside the dataset in which a new one is built."""
    return dataset.with_name(f".{dataset.name}.new")


def _create(part: Part, dataset: Path, disk: Disk, before_certain: Callable[[], None]) -> Committed | None:
    """Build a new dataset and let it appear; return None if another process was faster."""
    cradle = _cradle(dataset)
    with locked(dataset.parent):
        if _is_there(dataset):
            return None
        disk.remove_folder(cradle)
        addition = first_addition(part)
        for file in addition.files:
            disk.make_folder((cradle / file.path).parent)
            if file.linked is None:
                disk.write(cradle / file.path, file.content)
            else:
                disk.link(file.linked, cradle / file.path)
        disk.make_folder(cradle / layout.STATE_FOLDER)
        disk.write(cradle / _LOCK, b"")
        for folder in sorted({path.parent for path in cradle.rglob("*")}):
            disk.sync_folder(folder)
        before_certain()
        disk.rename(cradle, dataset)
        disk.sync_folder(dataset.parent)
    return Committed(episode_index=addition.episode_index, num_frames=addition.num_frames, already_in=False)


def _append(part: Part, dataset: Path, disk: Disk, before_certain: Callable[[], None]) -> Committed:
    if not (dataset / layout.STATE_FOLDER).is_dir():
        if not (dataset / layout.INFO_PATH).is_file():
            raise BadDataset(
                f"{dataset}: is there but is no dataset ({layout.INFO_PATH} is missing): give another folder, or remove this one"
            )
        disk.make_folder(dataset / layout.STATE_FOLDER)
    with locked(dataset / _LOCK):
        _recover(dataset, disk)
        known = committed_line(dataset, part.provenance)
        if known is not None:
            return Committed(episode_index=known.episode_index, num_frames=part.info.total_frames, already_in=True)
        addition = next_addition(part, dataset)
        _stage(addition, dataset, disk)
        before_certain()
        disk.rename(dataset / _JOURNAL_DRAFT, dataset / _JOURNAL)
        disk.sync_folder(dataset / layout.STATE_FOLDER)
        _roll_forward(dataset, disk)
    return Committed(episode_index=addition.episode_index, num_frames=addition.num_frames, already_in=False)


def _stage(addition: Addition, dataset: Path, disk: Disk) -> None:
    """Lay every file down below staging, make the folders they will go to, and draft the journal."""
    staging = dataset / _STAGING
    disk.make_folder(staging)
    moves = []
    for number, file in enumerate(addition.files):
        move = _Move(f"{_STAGING}/{number:03d}.staged", file.path)
        moves.append(move)
        disk.make_folder((dataset / file.path).parent)
        if file.linked is not None:
            disk.link(file.linked, dataset / move.staged)
        elif file.extends:
            disk.extend_lines(dataset / file.path, dataset / move.staged, file.content)
        else:
            disk.write(dataset / move.staged, file.content)
    disk.sync_folder(staging)
    disk.write(dataset / _JOURNAL_DRAFT, msgspec.json.encode(_Journal(tuple(moves))))


def _recover(dataset: Path, disk: Disk) -> bool:
    if (dataset / _JOURNAL).exists():
        _roll_forward(dataset, disk)
        return True
    if (dataset / _STAGING).exists() or (dataset / _JOURNAL_DRAFT).exists():
        _clear(dataset, disk)
    return False


def _roll_forward(dataset: Path, disk: Disk) -> None:
    """Put every journaled file in its place and forget the journal; steps that are done are passed over."""
    journal = _read_journal(dataset / _JOURNAL)
    pending = [move for move in journal.moves if (dataset / move.staged).exists()]
    lost = [move.path for move in journal.moves if move not in pending and not (dataset / move.path).exists()]
    if lost:
        raise BadDataset(f"{dataset}: the interrupted commit lost {', '.join(lost)}: restore the dataset from a backup")
    for move in pending:
        disk.rename(dataset / move.staged, dataset / move.path)
    for folder in sorted(_folders(dataset, journal)):
        disk.sync_folder(folder)
    disk.remove(dataset / _JOURNAL)
    disk.sync_folder(dataset / layout.STATE_FOLDER)
    _clear(dataset, disk)


def _folders(dataset: Path, journal: _Journal) -> set[Path]:
    """Return every folder that got a new name: of each file up to the dataset itself, since chunk folders may be new."""
    return {folder for move in journal.moves for folder in (dataset / move.path).parents if folder.is_relative_to(dataset)}


def _clear(dataset: Path, disk: Disk) -> None:
    disk.remove_folder(dataset / _STAGING)
    disk.remove(dataset / _JOURNAL_DRAFT)


def _read_journal(path: Path) -> _Journal:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Journal)
    except (OSError, msgspec.DecodeError) as error:
        raise BadDataset(
            f"{path}: cannot be read ({error}), expected the journal of a commit: restore the dataset from a backup"
        ) from error
