"""The folder of a recorder: what is being recorded, and what is saved and waits for its delivery.

    recording/{episode_id}/images/…    written by the camera process
    outbox/{episode_id}/event.json     the event and its nonce
    outbox/{episode_id}/raw/           the raw episode: joints/ and images/
    outbox/{episode_id}/held_back.txt  why the store or the bus does not take it
    sent_ahead/{episode_id}.json       objects of it may be in the store although it is not complete there (``traces``)

Theory of operation. An episode is completed inside ``recording/``, written to the disk, and comes into the outbox by one
rename: it is there whole or not at all. It leaves by one rename, too. What lies in ``recording/`` when a recorder starts was
cut off in the middle and goes. ``lock`` is held by the recorder and its saver, so that the second outlives the first safely.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from services.recorder.journal import Journal, RecordedEpisode
from services.recorder.saving.durability import FileSystem
from services.recorder.saving.episode import FinishedEpisode, Parcel
from services.recorder.saving.news import Removed
from services.recorder.saving.sizes import ImageSizes
from services.recorder.saving.writer import write_joints
from shared.episode import frame_timestamp_us
from shared.errors import BadRaw, Refused
from shared.store_file import sync_folder, translated, write_file
from shared.store_object import TEMPORARY_PREFIX

EVENT_FILE = "event.json"
HELD_BACK_FILE = "held_back.txt"
_REMOVED_PREFIX = ".removed-"
_SETTLED_S = 1.0
_LEFTOVER_TIMEOUT_S = 10.0
_LEFTOVER_PAUSE_S = 0.05


class Outbox:
    """The folder of one recorder. Close it.

    Args:
        folder: made if missing.
        dataset_uri: where a growing dataset lies, by its name; noted with its episodes.

    Raises:
        DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """

    def __init__(self, folder: Path, *, dataset_uri: Callable[[str], str | None] | None = None) -> None:
        self.folder = folder
        self._dataset_uri = dataset_uri
        self.recording, self.outbox = folder / "recording", folder / "outbox"
        self.journal = Journal(folder)
        with translated(str(folder)):
            self.recording.mkdir(parents=True, exist_ok=True)
            self.outbox.mkdir(exist_ok=True)
            self._file_system = FileSystem(folder)
        self._sizes = ImageSizes()
        self._latest: tuple[str, dict[str, int]] = ("", {})
        self._next_number = max((parcel.number for parcel in self.parcels()), default=0) + 1

    def close(self) -> None:
        """Let go of the folder."""
        self._file_system.close()

    def parcels(self) -> list[Parcel]:
        """Return what waits, in the order of recording.

        Raises:
            Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        return sorted(_parcels(self.outbox), key=lambda parcel: parcel.number)

    def raw(self, parcel: Parcel) -> Path:
        """Return the folder of the raw episode."""
        return self._place(parcel.event.episode_id) / "raw"

    def image_sizes(self, parcel: Parcel) -> dict[str, int] | None:
        """Return the bytes by ``images/{camera}/{name}`` of the episode that was saved last; None of any other."""
        nonce, sizes = self._latest
        return sizes if nonce == parcel.nonce else None

    def sync_ahead(self) -> None:
        """Write to the disk what has been recorded so far, and count it, if anything is being recorded."""
        being_recorded = {folder.name for folder in self.recording.iterdir()}
        self._sizes.forget_all_but(being_recorded)
        if being_recorded:
            self._file_system.sync_ahead()
        for episode_id in being_recorded:
            self._sizes.count(episode_id, self.recording / episode_id / "images", settled_s=_SETTLED_S)

    def save(self, finished: FinishedEpisode, nonce: str) -> tuple[Parcel, int]:
        """Complete an episode and take it into the outbox; return it with its bytes. May be called again after it failed.

        Raises:
            BadRaw: its samples are not sound, it has no folder, or another episode of its name waits already.
            DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        episode_id = finished.event.episode_id
        place = self._place(episode_id)
        with translated(str(finished.folder)):
            if place.exists():
                return self._saved_before(place, nonce)
            if not finished.folder.is_dir():
                raise BadRaw(f"recording/{episode_id}", "is not there, expected the images of the episode: was it removed?")
            parcel, num_bytes = self._completed(finished, nonce)
            num_bytes += self._sizes.count(episode_id, finished.folder / "raw" / "images")
            self._latest = (nonce, {f"images/{name}": size_bytes for name, size_bytes in self._sizes.of(episode_id).items()})
            self._file_system.sync(finished.folder)
            finished.folder.rename(place)
            sync_folder(self.outbox)
            sync_folder(self.recording)
            self._next_number = parcel.number + 1
            return parcel, num_bytes

    def hold_back(self, parcel: Parcel, sentence: str) -> None:
        """Note beside an episode why it is not taken."""
        write_file(self._place(parcel.event.episode_id) / HELD_BACK_FILE, lambda file: file.write(f"{sentence}\n".encode()))

    def remove(self, parcel: Parcel) -> None:
        """Note a delivered episode in the journal of its dataset, and remove it.

        Raises:
            DiskFull, Refused, StoreUnavailable: see ``shared.store_file.translated``.
        """
        recorded = recorded_of(parcel)
        if recorded is not None:
            self.journal.note(recorded)
        with translated(str(self.outbox)):
            removed = self.outbox / f"{_REMOVED_PREFIX}{uuid.uuid4().hex}"
            self._place(parcel.event.episode_id).rename(removed)
            sync_folder(self.outbox)
        shutil.rmtree(removed, ignore_errors=True)

    def sweep(self) -> list[Removed]:
        """Remove what a recorder that was killed was recording, and what it had not quite removed; say what was recorded."""
        with translated(str(self.folder)):
            for removed in self.outbox.glob(f"{_REMOVED_PREFIX}*"):
                shutil.rmtree(removed, ignore_errors=True)
            found = [_leftover(folder) for folder in sorted(self.recording.iterdir()) if folder.is_dir()]
            for left in found:
                shutil.rmtree(self.recording / left.episode_id)
        return found

    def _place(self, episode_id: str) -> Path:
        return self.outbox / episode_id

    def _saved_before(self, place: Path, nonce: str) -> tuple[Parcel, int]:
        parcel = _read(place)
        if parcel is None or parcel.nonce != nonce:
            raise BadRaw(f"outbox/{place.name}", "is there already, expected one episode of each name: give the new one another id")
        return parcel, _num_bytes(place)

    def _completed(self, finished: FinishedEpisode, nonce: str) -> tuple[Parcel, int]:
        """Bring ``recording/{episode_id}`` into the shape of the outbox, all but durable; return the bytes written."""
        event, folder = finished.event, finished.folder
        (folder / "raw").mkdir(exist_ok=True)
        if (folder / "images").is_dir():
            (folder / "images").rename(folder / "raw" / "images")
        for unfinished in (folder / "raw" / "images").glob(f"*/{TEMPORARY_PREFIX}*"):
            unfinished.unlink()  # its camera process was killed
        own = {name: getattr(event, name) for name in ("source", "episode_id", "dataset", "strategy", "config_overrides")} | {
            "nonce": nonce
        }
        num_bytes = write_joints(folder / "raw" / "joints", finished.arms, {**finished.metadata, **own})
        parcel = Parcel(
            event=event,
            nonce=nonce,
            number=self._next_number,
            num_frames=finished.num_frames,
            saved_at=time.time(),
            dataset_uri=self._dataset_uri(event.dataset) if self._dataset_uri and event.dataset is not None else None,
        )
        return parcel, num_bytes + (folder / EVENT_FILE).write_bytes(msgspec.json.encode(parcel))


def recorded_of(parcel: Parcel) -> RecordedEpisode | None:
    """Return the line for the journal; None if the episode is for no growing dataset."""
    event = parcel.event
    if event.dataset is None:
        return None
    return RecordedEpisode(
        episode_id=event.episode_id,
        source=event.source,
        dataset=event.dataset,
        task=event.task,
        saved_at=parcel.saved_at,
        num_frames=parcel.num_frames,
        dataset_uri=parcel.dataset_uri,
    )


def recorded_episodes(folder: Path, dataset: str) -> list[RecordedEpisode]:
    """Return the episodes that were saved for a dataset, in the order of recording: delivered ones and those in the outbox.

    Args:
        folder: the recorder's; it need not exist.
        dataset: the growing dataset's name.

    Raises:
        Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """
    held_back = {path.parent.name for path in (folder / "outbox").glob(f"*/{HELD_BACK_FILE}")}
    waiting = sorted(_parcels(folder / "outbox"), key=lambda parcel: parcel.number)
    in_outbox = [recorded for parcel in waiting if (recorded := recorded_of(parcel)) is not None and recorded.dataset == dataset]
    found = {(each.source, each.episode_id): each for each in (*Journal(folder).episodes(dataset), *in_outbox)}
    return [each for each in found.values() if each.episode_id not in held_back]


def noted_episodes(folder: Path) -> list[RecordedEpisode]:
    """Return every episode that was saved for any dataset, those that are held back among them.

    Args:
        folder: the recorder's; it need not exist.

    Raises:
        Refused, StoreUnavailable: see ``shared.store_file.translated``.
    """
    journal = Journal(folder)
    delivered = [episode for dataset in journal.datasets() for episode in journal.episodes(dataset)]
    return [*delivered, *(recorded for parcel in _parcels(folder / "outbox") if (recorded := recorded_of(parcel)) is not None)]


@contextmanager
def held(folder: Path) -> Iterator[BinaryIO]:
    """Hold a recorder's folder inside the block; whoever inherits the file that this yields holds it, too.

    The saver of a recorder that was killed may still be saving its last episode: it is waited for.

    Raises:
        Refused: another recorder holds the folder, or it cannot be made.
    """
    with translated(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+b")
    with lock:
        _wait_for(lock, folder)
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        yield lock


def _wait_for(lock: BinaryIO, folder: Path) -> None:
    deadline_s = time.monotonic() + _LEFTOVER_TIMEOUT_S
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        lock.seek(0)
        holder = lock.read().decode("ascii", "replace")
        if time.monotonic() > deadline_s or (holder.isdecimal() and _is_running(int(holder))):
            raise Refused(
                f"{folder} is in use by another recorder (process {holder or 'unknown'}): stop that one, or choose another folder"
            )
        time.sleep(_LEFTOVER_PAUSE_S)  # nobody tells about the end of a process that is not ours


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _parcels(outbox: Path) -> Iterator[Parcel]:
    with translated(str(outbox)):
        folders = [folder for folder in outbox.iterdir() if not folder.name.startswith(".")] if outbox.is_dir() else []
        for folder in folders:
            parcel = _read(folder)
            if parcel is not None:
                yield parcel


def _read(folder: Path) -> Parcel | None:
    try:
        return msgspec.json.decode((folder / EVENT_FILE).read_bytes(), type=Parcel)
    except FileNotFoundError:
        return None  # just taken away
    except msgspec.DecodeError as error:
        raise Refused(f"{folder / EVENT_FILE} is not what a recorder writes: {error}; move the folder {folder} away to go on") from error


def _leftover(folder: Path) -> Removed:
    times_us = [time_us for image in folder.rglob("*.jpg") if (time_us := frame_timestamp_us(image.name)) is not None]
    seconds = (max(times_us) - min(times_us)) / 1e6 if times_us else 0.0
    return Removed(episode_id=folder.name, num_frames=len(times_us), duration_s=round(seconds, 1))


def _num_bytes(folder: Path) -> int:
    return sum(os.stat(f"{below}/{name}").st_size for below, _, names in os.walk(folder) for name in names)  # noqa: PTH116 - of thousands
