"""Which raw episodes of a listing are ready, which are not and why, and from where the next scan may start. Pure.

A listing comes in key order, so the objects of one episode (``{prefix}{episode}/…``) lie together: the memory needed
is that of one episode, however large the bucket is. An episode is ready when it has enough files, every arm's parquet
file, a frame of every camera, and no file younger than ``settle_s`` by the store's own clock.

The next scan may skip what lies before the first episode that is not ready: that one is looked at again.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec

from shared.episode import frame_timestamp_us
from shared.events import NAME_PATTERN
from shared.revision import Revision
from shared.store_object import ObjectInfo

_NAME = re.compile(NAME_PATTERN)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete raw episode has.

    Attributes:
        arm_files: names of the parquet files below ``joints/``.
        cameras: names of the folders below ``images/``.
        min_files: smallest number of objects.
        settle_s: seconds without a new object after which an episode no longer grows.
    """

    arm_files: tuple[str, ...]
    cameras: tuple[str, ...]
    min_files: int
    settle_s: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of a listing.

    Attributes:
        episode_id: its folder's name.
        num_files: objects below it.
        revision: hash over names, sizes and contents' marks: the same content is the same revision.
        missing: what it lacks, as sentences; empty if it is complete.
        settles_in_s: seconds until it counts as no longer growing; 0 if it already does.
        folder: key of its folder, with a slash at its end.
        is_named_well: whether its name can be an episode id at all.
    """

    episode_id: str
    num_files: int
    revision: str
    missing: tuple[str, ...]
    settles_in_s: float
    folder: str
    is_named_well: bool = True

    @property
    def is_ready(self) -> bool:
        """Complete and no longer growing."""
        return not self.missing and self.settles_in_s <= 0

    @property
    def is_settling(self) -> bool:
        """Complete, and only too young."""
        return not self.missing and self.settles_in_s > 0

    @property
    def why(self) -> str:
        """Why it is not ready, as one sentence."""
        growing = (f"still growing: wait {self.settles_in_s:.0f} s",) if self.settles_in_s > 0 else ()
        return "; ".join((*self.missing, *growing))


class _Growing:
    """What is known of one episode while its objects pass by.

    Args:
        folder: key of its folder, with a slash at its end.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.episode_id = folder.removesuffix("/").rpartition("/")[2]
        self.num_files = 0
        self.newest_s = float("-inf")
        self.joints: set[str] = set()
        self.cameras: set[str] = set()
        self.content = Revision()

    def add(self, info: ObjectInfo, tail: str, wanted: Wanted) -> None:
        """Count one object; ``tail`` is its path below the episode."""
        self.num_files += 1
        self.newest_s = max(self.newest_s, info.modified_s)
        self.content.add(info, tail)
        kind, _, rest = tail.partition("/")
        if kind == "joints" and rest in wanted.arm_files and info.size_bytes > 0:
            self.joints.add(rest)
        camera, _, name = rest.partition("/")
        if kind == "images" and camera in wanted.cameras and frame_timestamp_us(name) is not None:
            self.cameras.add(camera)

    def judged(self, wanted: Wanted, now_s: float) -> Found:
        """Return the verdict once all objects have passed."""
        age_s = now_s - self.newest_s
        return Found(
            episode_id=self.episode_id,
            num_files=self.num_files,
            revision=self.content.text,
            missing=tuple(self._missing(wanted)),
            settles_in_s=max(0.0, wanted.settle_s - age_s) if age_s < wanted.settle_s else 0.0,
            folder=self.folder,
            is_named_well=_NAME.match(self.episode_id) is not None,
        )

    def _missing(self, wanted: Wanted) -> list[str]:
        problems = []
        if not _NAME.match(self.episode_id):
            problems.append(f"its name {self.episode_id!r} is no episode id: expected letters, digits, '.', '_', '-', at most 128")
        if self.num_files < wanted.min_files:
            problems.append(f"{self.num_files} files, expected at least {wanted.min_files} (bos.scanner.min_episode_files)")
        problems.extend(f"no joints/{name}" for name in wanted.arm_files if name not in self.joints)
        problems.extend(f"no frame in images/{name}/" for name in wanted.cameras if name not in self.cameras)
        return problems


async def episodes(listing: AsyncIterator[ObjectInfo], *, prefix: str, wanted: Wanted, now_s: float) -> AsyncIterator[Found]:
    """Yield one verdict per episode folder, in key order.

    Args:
        listing: objects below ``prefix`` in key order; objects directly in the prefix belong to no episode.
        prefix: the raw prefix, empty or with a slash at its end.
        wanted: what a complete episode has.
        now_s: the store's time in seconds since the epoch, not later than the listing.
    """
    current: _Growing | None = None
    async for info in listing:
        episode_id, slash, tail = info.key.removeprefix(prefix).partition("/")
        if not slash:
            continue
        if current is None or current.episode_id != episode_id:
            if current is not None:
                yield current.judged(wanted, now_s)
            current = _Growing(f"{prefix}{episode_id}/")
        current.add(info, tail, wanted)
    if current is not None:
        yield current.judged(wanted, now_s)


class Position:
    """The folder of the last episode that the next scan may skip: never beyond one that may still become ready.

    Args:
        start: where this scan started; None is the beginning.
    """

    def __init__(self, start: str | None) -> None:
        self.key = start
        self._is_held = False

    def pass_by(self, found: Found, *, is_done: bool) -> None:
        """Move behind an episode that is done, or that can never be one; stay before any other.

        Args:
            found: the next episode in key order.
            is_done: it was published, now or earlier.
        """
        if not is_done and found.is_named_well:
            self._is_held = True
        if not self._is_held:
            self.key = found.folder


def start_after(position: str | None, prefix: str) -> str | None:
    """Return the key after which a listing begins with the episode behind ``position``, whole.

    A file that came late into a finished episode must not make the rest of it look like an episode of its own, so
    the whole folder is skipped: ``~`` sorts after every name an episode has inside. It stays inside the folder because
    SeaweedFS orders folders by name (``e1``, ``e1-b``, ``e10``) and S3 by key (``e1-b/``, ``e1/``, ``e10/``).

    Args:
        position: a folder, or any key, of the last episode to skip; one outside ``prefix`` skips nothing.
        prefix: the raw prefix.
    """
    if position is None or not position.startswith(prefix):
        return None
    episode_id = position.removeprefix(prefix).partition("/")[0]
    return f"{prefix}{episode_id}/~" if episode_id else None
