"""Video devices of this host: which exist, who has one open, and why one cannot be opened, said before OpenCV tries.

OpenCV only says whether a device opened; a person needs to know whether it is absent, forbidden or taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable, sentence
from services.recorder.cameras.options import CameraOptions

_DEVICES = Path("/dev")
_PROCESSES = Path("/proc")


def video_devices(folder: Path = _DEVICES) -> list[str]:
    """Return the paths of the video devices, in the order of their numbers."""
    found = [path for path in folder.glob("video*") if re.fullmatch(r"video[0-9]+", path.name)]
    return [str(path) for path in sorted(found, key=lambda path: int(path.name[5:]))]


def holders(path: Path) -> list[str]:
    """Return the other processes that have a file open, as ``name (pid N)``; those of other users cannot be seen."""
    target = os.path.realpath(path)
    return [_described(process) for process in _PROCESSES.glob("[0-9]*") if int(process.name) != os.getpid() and _has_open(process, target)]


def check_distinct(cameras: Mapping[str, CameraOptions]) -> None:
    """Check that no two cameras name the same device.

    Raises:
        CameraRefused: two do.
    """
    name_by_device: dict[str, str] = {}
    for name, options in cameras.items():
        if options.device_path is None:
            continue
        device = os.path.realpath(options.device_path)
        other = name_by_device.setdefault(device, name)
        if other != name:
            raise CameraRefused(sentence(name, options.index_or_path, f"is the device of camera {other} too ({device}): give each its own"))


def check_device(name: str, options: CameraOptions) -> None:
    """Check that the device of a camera exists and that we may open it.

    Args:
        name: the camera's.
        options: of a camera with a ``device_path``.

    Raises:
        CameraRefused: it is absent or forbidden.
        CameraUnreachable: another program uses it.
    """
    path = Path(options.device_path or "")
    if not path.exists():
        found = ", ".join(video_devices()) or "none at all"
        raise CameraRefused(
            sentence(name, options.index_or_path, f"{path} does not exist; video devices here: {found}; plug it in or name another")
        )
    if not os.access(path, os.R_OK | os.W_OK):
        problem = f"{path} may not be opened by this user: add the user to the group of the device (video), log in again"
        raise CameraRefused(sentence(name, options.index_or_path, problem))
    if using := holders(path):
        raise CameraUnreachable(sentence(name, options.index_or_path, f"{path} is in use by {', '.join(using)}: end that program first"))


def _has_open(process: Path, target: str) -> bool:
    try:
        return any(os.path.realpath(link) == target for link in (process / "fd").iterdir())
    except OSError:  # it has ended, or belongs to somebody else
        return False


def _described(process: Path) -> str:
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "a process"
    return f"{name} (pid {process.name})"
