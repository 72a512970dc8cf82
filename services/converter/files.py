"""Opening the files of a raw episode so that nothing in it can hang a conversion, swamp it or lead it elsewhere.

Raw episodes of the command `convert` lie on a person's own disk, where a symbolic link is how a second disk is used:
links are followed. Those of a service were uploaded by somebody: below the ``roots`` of such an episode no link counts,
neither a folder nor a file, so that an episode cannot show files of the host. In both, only regular files are read: a
pipe would never end.

What is not settled here: somebody who can change folders on this host while a conversion runs is trusted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from services.converter.assignment import RawEpisode
from shared.errors import BadRaw

_LONGEST_NAME = 120
_KIND_BY_FORMAT = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_READ_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_LINK_REFUSED = "is reached over a symbolic link; a service reads only what lies in the episode itself: upload the {kind} in its place"


def shown(name: str) -> str:
    r"""Return a name from a disk as an error may show it: printable UTF-8, at most 120 characters (``\udcff``, ``\n``)."""
    escaped = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
    return escaped if len(escaped) <= _LONGEST_NAME else f"{escaped[:_LONGEST_NAME]}… ({len(name)} characters)"


def listing(names: Iterable[str], *, most: int = 12) -> str:
    """Return names one after the other as an error may show them; empty where there is none."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shown(name) for name in every[:most]) + more


def is_there(episode: RawEpisode, path: Path) -> bool:
    """Return whether a file of the episode is there and may be read; False if there is nothing of that name.

    Raises:
        BadRaw: something else is there: a folder, a pipe, a link that leads nowhere or, in a service, any link.
    """
    if not os.path.lexists(path):
        return False
    _check_file(path, episode.name_of(path), is_linkable=not episode.roots)
    return True


def checked_folder(episode: RawEpisode, folder: Path) -> Path | None:
    """Return a folder of the episode, or None if there is nothing of that name.

    Raises:
        BadRaw: something else is there, a link that leads nowhere or, in a service, a link on the way.
    """
    name = episode.name_of(folder)
    try:
        if not folder.is_dir():
            if not os.path.lexists(folder):
                return None
            raise BadRaw(name, f"{_what_is(folder)}, expected a folder")
        root = next((root for root in episode.roots if folder.is_relative_to(root)), None)
        if root is not None and folder.resolve() != root.resolve() / folder.relative_to(root):
            raise BadRaw(name, _LINK_REFUSED.format(kind="folder"))
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, in Python 3.11
        raise BadRaw(name, f"cannot be read: {error}") from error
    return folder


@contextmanager
def opened(path: Path, name: str, *, is_linkable: bool) -> Iterator[BinaryIO]:
    """Open a regular file, without waiting for anybody.

    Args:
        path: the file.
        name: what errors call it.
        is_linkable: whether it may be a symbolic link.

    Raises:
        BadRaw: it is none, is not there, or cannot be read.
    """
    _check_file(path, name, is_linkable=is_linkable)
    try:
        # Whatever takes its place in this instant: a pipe is not waited for, a link is not followed.
        descriptor = os.open(path, _READ_FLAGS if is_linkable else _READ_FLAGS | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except OSError as error:
        raise BadRaw(name, f"cannot be read: {error.strerror}") from error


def read(path: Path | str, name: str, *, is_linkable: bool, limit_bytes: int) -> bytes:
    """Return the content of a regular file.

    Raises:
        BadRaw: see ``opened``; or it is larger than ``limit_bytes``.
    """
    flags = _READ_FLAGS if is_linkable else _READ_FLAGS | os.O_NOFOLLOW
    try:  # the short way for ten thousand frames: one open, and the open file itself says what it is
        descriptor = os.open(path, flags)
    except OSError as error:
        _check_file(Path(path), name, is_linkable=is_linkable)  # mostly knows a better sentence
        raise BadRaw(name, f"cannot be read: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            _check_file(Path(path), name, is_linkable=is_linkable)
        if status.st_size > limit_bytes:
            raise BadRaw(name, f"has {status.st_size} bytes, the limit is {limit_bytes}")
        return _whole(descriptor, status.st_size)
    except OSError as error:
        raise BadRaw(name, f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _whole(descriptor: int, num_bytes: int) -> bytes:
    """Read ``num_bytes`` bytes, or what there is of them."""
    content = os.read(descriptor, num_bytes)
    while len(content) < num_bytes and (more := os.read(descriptor, num_bytes - len(content))):
        content += more
    return content


def _check_file(path: Path, name: str, *, is_linkable: bool) -> None:
    try:
        mode = os.stat(path, follow_symlinks=is_linkable).st_mode  # noqa: PTH116 - called for every frame
    except OSError as error:
        raise BadRaw(name, f"{_what_is(path)}, expected a file" if path.is_symlink() else f"cannot be read: {error.strerror}") from error
    if stat.S_ISREG(mode):
        return
    if stat.S_ISLNK(mode):
        raise BadRaw(name, _LINK_REFUSED.format(kind="file"))
    if stat.S_ISDIR(mode):
        raise BadRaw(name, "cannot be read: Is a directory, expected a file")
    raise BadRaw(name, f"is {_KIND_BY_FORMAT.get(stat.S_IFMT(mode), 'something else')}, expected a file")


def _what_is(path: Path) -> str:
    """Say what is at a path that is not what was expected; a link by where it leads."""
    if not path.is_symlink():
        return f"is {_KIND_BY_FORMAT.get(stat.S_IFMT(path.lstat().st_mode), 'a file')}"
    target = shown(str(path.readlink()))
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"is a symbolic link to {target} that leads back to itself"
        return f"is a symbolic link to {target}, which is not there"
    return f"is a symbolic link to {target}"
