"""What it takes to bring a one-episode dataset to its target: skip it, or which keys to remove and send, in order. Pure.

``meta/info.json`` is sent last and removed first: a target without it is not complete, whatever else lies there.
Data and videos go before the rest of ``meta``, so that no line of metadata ever names a file that has not arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import msgspec

from shared.errors import BadDataset, BadEvent

INFO = "meta/info.json"
MANIFEST = "meta/episodeflow/episode_000000.json"


class Upload(msgspec.Struct, frozen=True):
    """One file to send: path below the part's folder, key below the target, size."""

    path: str
    key: str
    size_bytes: int


class UploadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps in order; all empty with ``is_skipped`` if the target is already what it should be.

    Attributes:
        is_skipped: the target is complete and holds the same bytes.
        first_removed: the key whose absence makes a half-replaced target incomplete, or None for a fresh target.
        removed: keys of an older version that the new one does not have.
        uploads: everything but the last file, data and videos before metadata.
        last: the file that makes the target complete.
    """

    is_skipped: bool
    first_removed: str | None
    removed: tuple[str, ...]
    uploads: tuple[Upload, ...]
    last: Upload


class _Manifest(msgspec.Struct, frozen=True):
    digest: str


def upload_plan(
    sizes: Mapping[str, int], *, existing: Mapping[str, int], prefix: str, digest: str, existing_digest: str | None
) -> UploadPlan:
    """Return how ``prefix`` becomes the part.

    Args:
        sizes: bytes by path of every file of the part, with forward slashes.
        existing: bytes by key of what lies below ``prefix`` now.
        prefix: the target, with a slash at its end.
        digest: of the part.
        existing_digest: of what lies at the target, None if that cannot be told.

    Raises:
        BadDataset: the part has no ``meta/info.json``.
    """
    if INFO not in sizes:
        raise BadDataset(f"{INFO} is missing in the converted episode: publish episode.ready again to convert it anew")
    wanted = _keys(sizes, prefix)
    is_skipped = holds_part(sizes, existing=existing, prefix=prefix, digest=digest, existing_digest=existing_digest)
    info_key = f"{prefix}{INFO}"
    ordered = sorted((path for path in sizes if path != INFO), key=_rank)
    return UploadPlan(
        is_skipped=is_skipped,
        first_removed=info_key if info_key in existing and not is_skipped else None,
        removed=tuple(sorted(key for key in existing if key not in wanted)),
        uploads=() if is_skipped else tuple(Upload(path, f"{prefix}{path}", sizes[path]) for path in ordered),
        last=Upload(INFO, info_key, sizes[INFO]),
    )


def holds_part(sizes: Mapping[str, int], *, existing: Mapping[str, int], prefix: str, digest: str, existing_digest: str | None) -> bool:
    """Return whether the target is what the part would make of it: same digest, the same files, each of the same size."""
    return digest == existing_digest and dict(existing) == _keys(sizes, prefix)


def is_complete(existing: Mapping[str, int], *, prefix: str, digest: str, existing_digest: str | None, num_bytes: int) -> bool:
    """Return whether the target holds the dataset with this digest, where the part itself is not there to compare with.

    A store may lose a file that it had acknowledged, and info.json may outlive it: the sizes of all files must add up.

    Args:
        existing: bytes by key of what lies below ``prefix``.
        prefix: the target, with a slash at its end.
        digest: of the dataset.
        existing_digest: of what lies at the target, None if that cannot be told.
        num_bytes: size of all files of the dataset.
    """
    return digest == existing_digest and f"{prefix}{INFO}" in existing and sum(existing.values()) == num_bytes


def manifest_digest(body: bytes) -> str | None:
    """Return the digest in a manifest, or None if it is not readable as one."""
    try:
        return msgspec.json.decode(body, type=_Manifest).digest
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def checked_path(path: str) -> PurePosixPath:
    """Return the event's ``path`` if it names a folder below the spool.

    Raises:
        BadEvent: absolute, with empty steps, ``.`` or ``..``, or control characters.
    """
    steps = path.split("/")
    if not path or "\\" in path or not path.isprintable() or any(step in {"", ".", ".."} for step in steps):
        raise BadEvent(f"the path {path!r} does not lie below the spool: expected a relative folder such as local/episode_0001_chunking")
    return PurePosixPath(path)


def _keys(sizes: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {f"{prefix}{path}": size for path, size in sizes.items()}


def _rank(path: str) -> tuple[bool, str]:
    return path.startswith("meta/"), path
