"""Raw episodes on a disk: where they are, what is in them, streamed. The converter's door to raw parquet.

Decides which folders are episodes and refuses files that are not what REQUIREMENTS A describes, each with the file, what
was found and what was expected. Knows nothing about rows.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from services.converter import files
from services.converter.assignment import RawEpisode
from services.converter.files import listing, shown
from shared.episode import METADATA_FILE, ArmConfig, RawMetadata, frame_timestamp_us
from shared.errors import BadRaw

PYARROW_VERSION: str = pa.__version__
BATCH_SAMPLES = 8192
MAX_TIMESTAMP_US = 4_102_444_800_000_000
"""2100-01-01: a larger value is no microsecond timestamp (nanoseconds, most likely)."""

MAX_VALUE = float(np.finfo(np.float32).max)
"""Datasets hold joints as float32: a larger value would become infinite."""

MAX_SAMPLES = 10_000_000
"""Eleven hours at 250 Hz, far beyond what LeRobot's timestamps carry; a small file can claim any number."""

MAX_METADATA_BYTES = 1024 * 1024
MAX_JPEG_BYTES = 64 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024
_JPEG_SUFFIXES = (".jpg", ".jpeg")


class CameraFrames(msgspec.Struct, frozen=True, kw_only=True):
    """The JPEG files of one camera in time order: ``times_us`` (S,) int64 and ``names`` (S,) bytes; may they be links?"""

    camera: str
    folder: Path
    times_us: NDArray[np.int64]
    names: NDArray[np.bytes_]
    is_linkable: bool = True

    def path(self, index: int) -> Path:
        """Return the file of a frame."""
        return self.folder / str(self.names[index].decode())

    def read(self, index: int) -> bytes:
        """Return the content of a frame's file.

        Raises:
            BadRaw: it is no file, too large for an image, or cannot be read.
        """
        name = self.names[index].decode()  # plain strings: a Path for each of ten thousand frames is felt
        return files.read(f"{self.folder}/{name}", f"images/{self.camera}/{name}", is_linkable=self.is_linkable, limit_bytes=MAX_JPEG_BYTES)


def find_episodes(data_path: Path, images_path: Path) -> dict[str, RawEpisode]:
    """Return the raw episodes below two folders (often the same one) by name, in name order.

    Accepts the local layout (``{root}/joints/{task}/{episode}``, or a path that already points at ``joints`` or at the
    task) and the bucket layout (``{root}/{episode}/joints``, or the episode's folder itself). Episodes of several tasks
    that share a name are called ``{task}/{episode}``.

    Raises:
        BadRaw: a folder is missing or holds no episode.
    """
    if not data_path.is_dir():
        raise BadRaw(str(data_path), "is no folder, expected raw episodes; set input.data_path or give --input")
    bucket = _bucket_episodes(data_path, images_path)
    found = bucket or _local_episodes(_below(data_path, "joints"), _images_folder(data_path, images_path))
    if not found:
        raise BadRaw(str(data_path), "holds no raw episode, expected joints/{task}/{episode}/*.parquet or {episode}/joints/*.parquet")
    num_named = Counter(episode.episode_id for episode in found)
    unique = {
        episode.episode_id if num_named[episode.episode_id] == 1 else f"{episode.joints.parent.name}/{episode.episode_id}": episode
        for episode in found
    }
    return dict(sorted(unique.items()))


def _below(path: Path, name: str) -> Path:
    return path / name if (path / name).is_dir() else path


def _images_folder(data_path: Path, images_path: Path) -> Path:
    """Return the images of the local layout; one path into the joints stands for the images beside them too."""
    if images_path == data_path:
        for folder in (data_path.absolute(), data_path.absolute().parent):
            if folder.name == "joints" and (folder.parent / "images").is_dir():
                return folder.parent / "images"
    return _below(images_path, "images")


def _bucket_episodes(data_path: Path, images_path: Path) -> list[RawEpisode]:
    if _has_parquet(data_path / "joints"):
        return [RawEpisode(episode_id=data_path.resolve().name, joints=data_path / "joints", images=images_path / "images")]
    return [
        RawEpisode(episode_id=folder.name, joints=folder / "joints", images=images_path / folder.name / "images")
        for folder in _folders(data_path)
        if (folder / "joints").is_dir() or (images_path / folder.name / "images").is_dir()
    ]


def _local_episodes(joints: Path, images: Path) -> list[RawEpisode]:
    """Find ``{task}/{episode}`` or, below a task's folder, ``{episode}``."""
    here = _folders(joints)
    if any(_has_parquet(folder) for folder in here):
        task_images = images / joints.name if (images / joints.name).is_dir() else images
        return [RawEpisode(episode_id=folder.name, joints=folder, images=task_images / folder.name) for folder in here]
    return [
        RawEpisode(episode_id=folder.name, joints=folder, images=images / task.name / folder.name)
        for task in here
        if any(_has_parquet(folder) for folder in _folders(task))
        for folder in _folders(task)
    ]


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _has_parquet(folder: Path) -> bool:
    return folder.is_dir() and any(entry.suffix == ".parquet" for entry in folder.iterdir())


def read_metadata(episode: RawEpisode) -> RawMetadata:
    """Return what ``metadata.json`` says; nothing where there is none.

    Raises:
        BadRaw: the file is there and is no JSON object, or has a wrong type.
    """
    path = episode.joints / METADATA_FILE
    if files.checked_folder(episode, episode.joints) is None or not files.is_there(episode, path):
        return RawMetadata()
    name = episode.name_of(path)
    content = files.read(path, name, is_linkable=not episode.roots, limit_bytes=MAX_METADATA_BYTES)
    try:
        return msgspec.json.decode(content, type=RawMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRaw(name, f"is not valid: {error}; expected a JSON object, or no file at all") from error


def list_frames(episode: RawEpisode, camera: str) -> CameraFrames | None:
    """Return a camera's frames in time order, or None where the camera has no folder or no frame.

    Raises:
        BadRaw: a .jpg file is not named by its microsecond timestamp, two have the same one, or the folder is none.
    """
    folder = episode.images / camera
    if files.checked_folder(episode, episode.images) is None or files.checked_folder(episode, folder) is None:
        return None
    names = sorted(os.listdir(folder))  # noqa: PTH208 - ten thousand Paths cost more than the listing
    found = [(_timestamp(folder, name), name) for name in names if _is_frame(name)]
    if not found:
        return None
    found.sort()
    times_us = np.array([time_us for time_us, _ in found], np.int64)
    same = np.flatnonzero(np.diff(times_us) == 0)
    if len(same):
        first, second = found[same[0]][1], found[same[0] + 1][1]
        raise BadRaw(f"images/{camera}/{second}", f"has the same timestamp as {first}, expected one frame per timestamp: remove one")
    every = np.array([name for _, name in found], np.bytes_)
    return CameraFrames(camera=camera, folder=folder, times_us=times_us, names=every, is_linkable=not episode.roots)


def _is_frame(name: str) -> bool:
    """Tell frames from what lies beside them; macOS leaves ``._{name}.jpg`` beside every file it copies."""
    return name.lower().endswith(_JPEG_SUFFIXES) and not name.startswith(".")


def _timestamp(folder: Path, name: str) -> int:
    time_us = frame_timestamp_us(name)
    if time_us is None or time_us > MAX_TIMESTAMP_US:
        raise BadRaw(
            f"images/{folder.name}/{shown(name)}", "is not named by a timestamp in microseconds, expected for example 1764564821038303.jpg"
        )
    return time_us


class ArmSamples:
    """The parquet file of one arm, read in batches.

    Args:
        episode: the raw episode.
        arm: which arm.
        num_joints: J, columns ``joint_0`` to ``joint_{J-1}``.

    Raises:
        BadRaw: the file is missing, cut off, or has other columns or types than expected.
    """

    def __init__(self, episode: RawEpisode, arm: ArmConfig, num_joints: int) -> None:
        path = episode.joints / arm.file_name
        self.path, self.name = path, episode.name_of(path)
        self._columns = ["timestamps", *(f"joint_{index}" for index in range(num_joints))]
        if files.checked_folder(episode, episode.joints) is None or not files.is_there(episode, path):
            there = listing(sorted(entry.name for entry in episode.joints.glob("*.parquet"))) or "no parquet file"
            raise BadRaw(self.name, f"is missing (found {there}), expected the samples of arm {arm.name}; robot.arms names the files")
        self._file = self._opened()
        try:
            self._check_schema()
        except BadRaw:
            self.close()
            raise
        self.num_samples = self._file.metadata.num_rows

    def close(self) -> None:
        """Close the file; pyarrow leaves a source that it did not open itself to its owner."""
        self._file.close(force=True)
        self._source.close()

    def _opened(self) -> pq.ParquetFile:
        try:
            self._source = pa.OSFile(str(self.path), "rb")
        except OSError as error:
            raise BadRaw(self.name, f"cannot be read: {error.strerror or error}") from error
        try:
            return pq.ParquetFile(self._source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            self._source.close()
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> BadRaw:
        size = self.path.stat().st_size
        return BadRaw(self.name, f"is no whole parquet file ({size} bytes): {' '.join(str(error).split())[:200]}; copy it again")

    def _check_schema(self) -> None:
        schema = self._file.schema_arrow
        missing = [column for column in self._columns if column not in schema.names]
        if missing:
            raise BadRaw(self.name, f"has no column {', '.join(missing)} (found {listing(schema.names) or 'none'})")
        twice = [column for column in self._columns if schema.names.count(column) > 1]
        if twice:
            raise BadRaw(self.name, f"has the column {', '.join(twice)} twice, expected every name once")
        beyond = f"joint_{len(self._columns) - 1}"
        if beyond in schema.names:
            raise BadRaw(
                self.name, f"has a column {beyond}, but robot.joints_per_arm is {len(self._columns) - 1}: correct the configuration"
            )
        for column in self._columns:
            found = schema.field(column).type
            sound = pa.types.is_int64(found) if column == "timestamps" else pa.types.is_floating(found)
            if not sound:
                expected = "int64 microseconds" if column == "timestamps" else "float64"
                raise BadRaw(self.name, f"column {column} is {found}, expected {expected}")
        num_samples = self._file.metadata.num_rows
        if not num_samples:
            raise BadRaw(self.name, "has no samples, expected at least one row")
        if num_samples > MAX_SAMPLES:
            raise BadRaw(self.name, f"has {num_samples} samples, the limit is {MAX_SAMPLES}: expected the samples of one episode")

    def times(self) -> Iterator[NDArray[np.int64]]:
        """Yield the times alone, (S,) int64, strictly increasing over all batches.

        Raises:
            BadRaw: no value, or a time that is negative, too late, or not after the one before.
        """
        row, previous_us = 0, -1
        for batch in self._read(["timestamps"]):
            times_us = self._column(batch, "timestamps", row).astype(np.int64)
            self._check_times(times_us, previous_us=previous_us, row=row)
            yield times_us
            row += len(times_us)
            previous_us = int(times_us[-1])

    def batches(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Yield times as ``times`` does, and values (S, J) float64, all finite.

        Raises:
            BadRaw: as ``times``, or a missing, NaN or infinite value.
        """
        row, previous_us = 0, -1
        for batch in self._read(self._columns):
            values = np.empty((batch.num_rows, len(self._columns) - 1))
            for index, name in enumerate(self._columns[1:]):
                values[:, index] = self._column(batch, name, row)
            self._check_values(values, row)
            # A copy: a view would keep the whole batch in memory for as long as its times are needed.
            times_us = self._column(batch, "timestamps", row).astype(np.int64)
            self._check_times(times_us, previous_us=previous_us, row=row)
            yield times_us, values
            row += len(times_us)
            previous_us = int(times_us[-1])

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        batches = self._file.iter_batches(BATCH_SAMPLES, columns=columns, use_threads=False)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error
            if batch is None:
                return
            if batch.num_rows:
                yield batch

    def _column(self, batch: pa.RecordBatch, name: str, row: int) -> NDArray[Any]:
        column = batch.column(name)
        if column.null_count:
            first = row + int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise BadRaw(self.name, f"column {name} has no value in row {first}")
        values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return values

    def _check_values(self, values: NDArray[np.float64], row: int) -> None:
        sound = np.abs(values) <= MAX_VALUE  # NaN compares false
        if not sound.all():
            bad_row, joint = np.argwhere(~sound)[0]
            raise BadRaw(self.name, f"column joint_{joint} is {values[bad_row, joint]} in row {row + bad_row}, expected a finite number")

    def _check_times(self, times_us: NDArray[np.int64], *, previous_us: int, row: int) -> None:
        earliest_us, latest_us = int(times_us.min()), int(times_us.max())
        if earliest_us < 0 or latest_us > MAX_TIMESTAMP_US:  # anywhere in the batch: differences of such times overflow
            bad = earliest_us if earliest_us < 0 else latest_us
            raise BadRaw(self.name, f"has the timestamp {bad}, expected microseconds between 1970 and 2100")
        steps = np.diff(times_us, prepend=previous_us)
        if (steps <= 0).any():
            at = int(np.argmax(steps <= 0))
            kind = "twice" if steps[at] == 0 else f"after {int(times_us[at] - steps[at])}"
            raise BadRaw(self.name, f"has the timestamp {times_us[at]} {kind} in row {row + at}, expected strictly increasing timestamps")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
