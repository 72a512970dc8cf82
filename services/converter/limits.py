"""What one episode may use: memory, set in its process before it begins, and seconds, counted by its parent.

An episode beyond a limit is a crash of its worker like any other: it is tried again (another host may have more room) and
fails as ``crashed`` after the configured attempts, with the limit, what was used and the key to change in its sentence.
Limits never change bytes: they end a conversion or have no part in it.

The memory limit is the kernel's limit of a process's data (``RLIMIT_DATA``: heap, stacks of threads and other private
mappings), on top of what the libraries hold before the episode begins. Linux keeps it; macOS accepts it and does not.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import msgspec

from shared.errors import WorkerCrashed

MEMORY_KEY = "conversion.max_memory_mb"
TIME_KEY = "conversion.max_seconds"
_BYTES_PER_MB = 1024 * 1024
_LONGEST_CHAIN = 20
_SIGNS = ("cannot allocate memory", "insufficient memory", "failed to allocate", "bad_alloc", "can't start new thread")
"""How libraries word it that do not raise ``MemoryError``: FFmpeg, OpenCV, C++, Python's threads."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of one episode may use; None: as much as there is.

    Attributes:
        max_memory_mb: MiB of data beyond what its libraries hold.
        max_seconds: seconds from the start of its process.
    """

    max_memory_mb: int | None = None
    max_seconds: float | None = None


def limit_memory(limits: Limits) -> None:
    """Limit the memory of this process, beyond what it holds now, for the rest of its life."""
    if limits.max_memory_mb is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = ((data_mb(os.getpid()) or 0) + limits.max_memory_mb) * _BYTES_PER_MB
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error, or one that led to it, is the lack of memory."""
    current: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if current is None:
            return False
        if isinstance(current, MemoryError) or getattr(current, "errno", None) == errno.ENOMEM:
            return True
        if any(sign in str(current).casefold() for sign in _SIGNS):
            return True
        current = current.__cause__ or current.__context__
    return False


def out_of_memory(limits: Limits, *, used_mb: int | None) -> WorkerCrashed:
    """Return the error of an episode that had no more memory.

    Args:
        limits: what it was allowed.
        used_mb: the most that was seen beyond its libraries, None if nobody looked in time.
    """
    used = "" if used_mb is None else f" (it had {used_mb} MB)"
    if limits.max_memory_mb is None:
        return WorkerCrashed(f"the conversion of the episode had no more memory{used}: give the host more, or convert fewer at once")
    return WorkerCrashed(
        f"the conversion of the episode needs more memory than {MEMORY_KEY} = {limits.max_memory_mb} MB allows{used}: raise {MEMORY_KEY}"
    )


def out_of_time(limits: Limits, *, num_frames: int) -> WorkerCrashed:
    """Return the error of an episode that took too long.

    Args:
        limits: what it was allowed.
        num_frames: camera frames that were encoded in that time.
    """
    return WorkerCrashed(
        f"the conversion of the episode took longer than {TIME_KEY} = {limits.max_seconds:g} s allows ({num_frames} camera frames were "
        f"encoded until then): raise {TIME_KEY}"
    )


def data_mb(pid: int | None) -> int | None:
    """Return how many MiB of data a process has now, or None where that cannot be seen."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) // 1024
    return None
