"""Where frames come from: one way to open, wait, read and close for every kind of camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from services.recorder.cameras.jpeg import Jpeg
from services.recorder.cameras.opencv import VideoFile, open_device
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.synthetic import SyntheticDevice


class Source(Protocol):
    """An open camera; used by one thread, but for ``interrupt``."""

    def grab(self) -> float | None:
        """Wait for the next frame and return the monotonic time in seconds of its capture; None: the camera gave none."""

    def retrieve(self) -> Jpeg:
        """Return the frame that was grabbed last; raises ValueError if it arrived damaged."""

    def interrupt(self) -> None:
        """End a wait for a frame where that is possible; called by another thread."""

    def close(self) -> None:
        """Let the camera go."""


Opener = Callable[[], Source]
"""Opens a camera, again and again; raises CameraRefused or CameraUnreachable."""


def opener(name: str, options: CameraOptions) -> Opener:
    """Return what opens the camera of these options.

    Args:
        name: the camera's.
        options: what was asked for.

    Raises:
        CameraRefused: the address of a synthetic camera is wrong.
    """
    if options.is_simulated:
        return SyntheticDevice(name, options).open
    return partial(open_device if options.device_path else VideoFile, name, options)
