"""What every store has in common: an object, the interface, and which keys are allowed. Pure.

A key is a relative path with forward slashes (``raw_datas/episode_0001/joints/left_slave.parquet``). Keys are listed
in the order of their UTF-8 bytes, as S3 does; SeaweedFS sorts the names of each folder instead (``a/x`` before
``a-b/x``), so rely only on what both keep: a folder's objects lie together, and ``start_after`` means that very order.
A name that begins with ``TEMPORARY_PREFIX`` is work in progress of a file store: no listing shows it and nobody may
ask for it by key.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Protocol

import msgspec

from shared.errors import Refused

TEMPORARY_PREFIX = ".part-"
"""Begins the name of every file or folder that a file store has not finished."""

MAX_KEY_BYTES = 1024
"""The limit of S3, kept for every store."""


class ObjectInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One object as a listing shows it.

    Attributes:
        key: relative to the store's root.
        size_bytes: its length.
        modified_s: seconds since the epoch, by the store's clock.
        etag: what the store calls its content (S3), without quotes; None where there is no such thing.
    """

    key: str
    size_bytes: int
    modified_s: float
    etag: str | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long one request to a server may take: seconds to connect and between bytes, and tries in all."""

    connect_timeout_s: float = 5.0
    read_timeout_s: float = 60.0
    max_attempts: int = 5


class Store(Protocol):
    """A flat space of objects below one root; the same promises for folders and for S3.

    An object is visible whole or not at all. Every method raises ``StoreUnavailable`` where trying again may
    help, ``Refused`` where it cannot (credentials, missing bucket, missing object, a key that leaves the root),
    and ``DiskFull`` when a disk on our side has no room.
    """

    @property
    def uri(self) -> str:
        """The root, ``file:///folder`` or ``s3://bucket/prefix``."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What was corrected in the configuration, as sentences for a person."""
        ...

    def list(self, prefix: str = "", *, start_after: str | None = None) -> AsyncIterator[ObjectInfo]:
        """Yield the objects whose key begins with ``prefix`` and sorts after ``start_after``, in key order, page by page."""
        ...

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the object's entry, or None if there is no such object."""
        ...

    async def get(self, key: str, path: Path) -> ObjectInfo:
        """Write the object to ``path`` (under a temporary name, then renamed), its size and MD5 checked."""
        ...

    async def get_bytes(self, key: str) -> bytes:
        """Return a small object's content."""
        ...

    async def put(self, path: Path, key: str) -> None:
        """Send a file; the object appears when all of it has arrived."""
        ...

    async def put_bytes(self, body: bytes, key: str) -> None:
        """Write a small object."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there counts as removed."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove every object whose key begins with ``prefix``; return how many there were."""
        ...

    async def clock_s(self) -> float:
        """Return the time by the store's own clock, in seconds since the epoch; proves that the root can be reached."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Return where the object lies on this host, or None if it does not lie on a disk of ours."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


def checked_key(key: str) -> str:
    """Return ``key`` if it names something below the root.

    Raises:
        Refused: empty, too long, absolute, with ``.``, ``..`` or empty steps, a control character or a temporary name.
    """
    steps = key.split("/")
    if not key or len(key.encode("utf-8", "replace")) > MAX_KEY_BYTES or not key.isprintable() or "\\" in key:
        raise Refused(f"the key {key!r} is not usable: expected 1 to {MAX_KEY_BYTES} bytes of printable text with forward slashes")
    if any(step in {"", ".", ".."} for step in steps):
        raise Refused(
            f"the key {key!r} leaves the store or has an empty step: expected a relative path such as raw_datas/episode_0001/a.jpg"
        )
    if any(step.startswith(TEMPORARY_PREFIX) for step in steps):
        raise Refused(f"the key {key!r} has the name of an unfinished file: names that begin with {TEMPORARY_PREFIX} belong to the store")
    return key


def checked_prefix(prefix: str) -> str:
    """Return ``prefix`` if every key that begins with it lies below the root.

    Raises:
        Refused: absolute, or with ``.``, ``..`` or empty steps.
    """
    if prefix.rstrip("/"):
        checked_key(prefix.removesuffix("/"))
    elif prefix:
        raise Refused(f"the prefix {prefix!r} is absolute: expected a relative path such as raw_datas/")
    return prefix
