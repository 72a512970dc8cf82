"""Provenance: what a manifest says made an episode, and whether that is still so.

Decides how values are hashed so that renumbering and re-encoding tables do not matter, and how a manifest vouches for
itself. ``verify_provenance`` reads, never changes; each problem names one file.

A manifest is sealed with a hash over everything else in it, and is written in a fixed form (indented by two): a byte of
it that changed shows either as a broken seal or as another form. This finds accidents, not forgers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.digests import document_digest
from shared.errors import BadDataset
from shared.lerobot import layout, rows
from shared.lerobot.info import Info, read_info
from shared.lerobot.records import ProvenanceLine, decoded_json, read_bytes, read_lines
from shared.lerobot.tables import read_columns

SEAL = "seal"

_PARQUET = (".parquet",)
_JPEG = (".jpg", ".jpeg")


class Problem(msgspec.Struct, frozen=True):
    """What is not as the manifest says: a file (below the dataset, or below ``raw``) and the fact."""

    path: str
    problem: str


class RawFolders(msgspec.Struct, frozen=True, kw_only=True):
    """Where a raw episode lies: a folder of parquet files, and one with a folder per camera."""

    joints: Path
    images: Path

    def folder(self, kind: str) -> Path:
        """Return the folder that a manifest calls ``joints`` or ``images/{camera}``."""
        return self.joints if kind == "joints" else self.images / kind.removeprefix("images/")


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: problems in a fixed order, episodes with a manifest, and how many files were hashed."""

    problems: tuple[Problem, ...]
    episodes: int
    files: int


FindRaw = Callable[[str, str], RawFolders | None]
"""Given source and episode id, where the raw episode lies; None: it is not there."""


def rows_digest(columns: Mapping[str, NDArray[Any]]) -> str:
    """Return ``sha256:…`` over names, shapes, types and values of an episode's columns, whatever number the episode has.

    Args:
        columns: (N, …) by name; a column (N, 1) counts as (N,), as LeRobot stores it.
    """
    digest = hashlib.sha256()
    for key in sorted(set(columns) - set(layout.DEFAULT_DTYPE_BY_COLUMN)):
        values = np.ascontiguousarray(columns[key])
        values = values.reshape(-1) if values.shape[1:] == (1,) else values
        digest.update(f"{key} {values.dtype.newbyteorder('<').str} {values.shape}\n".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return f"sha256:{digest.hexdigest()}"


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the hash over all its other keys."""
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    return {**rest, SEAL: document_digest(rest)}


def read_manifest(dataset: Path, episode_index: int) -> dict[str, Any]:
    """Return the manifest of an episode.

    Raises:
        BadDataset: there is none, or it is no JSON object.
    """
    path = layout.manifest_path(episode_index)
    document = decoded_json(read_bytes(dataset / path), path)
    if not isinstance(document, dict):
        raise BadDataset(f"{path}: holds a {type(document).__name__}, expected the JSON object of a manifest; restore it from a backup")
    return document


def verify_provenance(dataset: Path, *, raw: FindRaw | None = None) -> Verification:
    """Return what in a dataset is not as its manifests say; nothing for episodes that were made without one.

    Hashes every video and the values of every table and, with ``raw``, every raw file.

    Args:
        dataset: folder of a LeRobot v2.1 dataset.
        raw: finds the raw episodes; None leaves them out.

    Raises:
        BadDataset: the dataset has no readable ``meta/info.json``.
    """
    info = read_info(dataset)
    index_path = layout.PROVENANCE_PATH
    try:
        lines = read_lines(dataset / index_path, ProvenanceLine) if (dataset / index_path).exists() else []
    except BadDataset as error:
        return Verification(problems=(Problem(index_path, str(error)),), episodes=0, files=0)
    counter = _Counter()
    problems = list(_strays(dataset, {line.episode_index for line in lines}))
    for line in lines:
        problems += _episode_problems(dataset, info, line, raw=raw, counter=counter)
    return Verification(problems=tuple(problems), episodes=len(lines), files=counter.files)


class _Counter:
    """Counts hashed files."""

    def __init__(self) -> None:
        self.files = 0

    def hashed(self, path: Path) -> str:
        self.files += 1
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _strays(dataset: Path, indices: set[int]) -> Iterator[Problem]:
    """Name manifests that the index does not know: a line of the index is missing or damaged."""
    for path in sorted((dataset / layout.PROVENANCE_PATH).parent.glob("episode_*.json")):
        if path.name not in {Path(layout.manifest_path(index)).name for index in indices}:
            yield Problem(path.relative_to(dataset).as_posix(), f"is there, but {layout.PROVENANCE_PATH} does not list its episode")


def _episode_problems(dataset: Path, info: Info, line: ProvenanceLine, *, raw: FindRaw | None, counter: _Counter) -> list[Problem]:
    path = layout.manifest_path(line.episode_index)
    try:
        manifest = read_manifest(dataset, line.episode_index)
        problems = [Problem(path, problem) for problem in _manifest_problems(read_bytes(dataset / path), manifest, line)]
        problems += _output_problems(dataset, info, line.episode_index, manifest, counter)
        if raw is not None:
            problems += _raw_problems(manifest, line, raw, counter)
    except BadDataset as error:
        return [Problem(path, str(error))]
    return problems


def _manifest_problems(content: bytes, manifest: dict[str, Any], line: ProvenanceLine) -> Iterator[str]:
    for key in ("source", "episode_id", "strategy", "digest"):
        if manifest.get(key) != getattr(line, key):
            yield f"{key} is {manifest.get(key)!r}, {layout.PROVENANCE_PATH} says {getattr(line, key)!r}"
    if SEAL not in manifest:
        yield "has no seal, so a change in it would not show: an older version made it, convert the episode again"
    elif manifest != sealed(manifest):
        yield "has changed since it was written: its seal does not fit; restore it from a backup or convert the episode again"
    elif content not in _forms(manifest):
        yield "has changed since it was written: it is not in the form in which manifests are written"


def _forms(manifest: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return a manifest's bytes as ``write_part`` and as the converter write it: they differ in how small numbers look."""
    return (
        (json.dumps(dict(manifest), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n",
    )


def _output_problems(dataset: Path, info: Info, index: int, manifest: dict[str, Any], counter: _Counter) -> Iterator[Problem]:
    videos = _texts(manifest, "videos")
    for key in sorted({*videos, *info.video_keys}):
        path = info.video_file(key, index)
        if key not in videos:
            yield Problem(path, "is not in the manifest")
        elif not (dataset / path).is_file():
            yield Problem(path, "is missing")
        elif counter.hashed(dataset / path) != videos[key]:
            yield Problem(path, "is not the video that the conversion wrote: its SHA-256 differs from the manifest's")
    table = info.data_file(index)
    if "rows" not in manifest:
        yield Problem(table, "cannot be verified: the manifest has no hash of its rows, an older version made it")
        return
    try:
        columns = read_columns(dataset / table)
    except BadDataset as error:
        yield Problem(table, str(error))
        return
    counter.files += 1
    if rows_digest(columns) != manifest["rows"] or not _has_exact_times(columns, info.fps):
        yield Problem(table, "does not hold the values that the conversion wrote: their SHA-256 differs from the manifest's")


def _has_exact_times(columns: Mapping[str, NDArray[Any]], fps: int) -> bool:
    """Return whether the columns that count rows and time are what they are in every episode, to the last bit."""
    num_frames = len(next(iter(columns.values()), ()))
    expected = rows.default_columns(num_frames=num_frames, fps=fps, episode_index=0, first_index=0, task_index=0)
    return all(key in columns and np.array_equal(columns[key], expected[key]) for key in ("timestamp", "frame_index"))


def _raw_problems(manifest: dict[str, Any], line: ProvenanceLine, find: FindRaw, counter: _Counter) -> Iterator[Problem]:
    folders = find(line.source, line.episode_id)
    if folders is None:
        yield Problem(f"raw/{line.episode_id}", f"the raw episode of episode {line.episode_index} is not there")
        return
    sections = manifest.get("raw")
    if not isinstance(sections, dict):
        raise BadDataset("the manifest has no raw files; convert the episode again")
    for kind in sections:
        suffixes = _PARQUET if kind == "joints" else _JPEG
        yield from _folder_problems(line.episode_id, kind, folders.folder(kind), _texts(sections, kind), suffixes=suffixes, counter=counter)
    for name, digest in _texts(manifest, "metadata").items():
        yield from _file_problems(f"{line.episode_id}/joints/{name}", folders.joints / name, digest, counter)


def _folder_problems(
    episode_id: str, kind: str, folder: Path, digests: dict[str, str], *, suffixes: tuple[str, ...], counter: _Counter
) -> Iterator[Problem]:
    for name in sorted(digests):
        yield from _file_problems(f"{episode_id}/{kind}/{name}", folder / name, digests[name], counter)
    there = {path.name for path in folder.iterdir() if path.name.lower().endswith(suffixes)} if folder.is_dir() else set()
    for name in sorted(there - set(digests)):
        yield Problem(
            f"{episode_id}/{kind}/{name}", "is a raw file that the conversion did not read: it was added since, or is not configured"
        )


def _file_problems(name: str, path: Path, digest: str, counter: _Counter) -> Iterator[Problem]:
    if not path.is_file():
        yield Problem(name, "is a raw file of the manifest and is missing")
    elif counter.hashed(path) != digest:
        yield Problem(name, "is not the raw file that was converted: its SHA-256 differs from the manifest's")


def _texts(document: Mapping[str, Any], key: str) -> dict[str, str]:
    """Return a mapping of texts in a manifest, empty if there is none."""
    try:
        return msgspec.convert(document.get(key, {}), dict[str, str])
    except msgspec.ValidationError as error:
        raise BadDataset(f"{key}: {error}; restore the manifest from a backup or convert the episode again") from error
