"""The images of an episode while they come in: found by listing, read through open folders.

A file has its name when it is complete (``services/recorder/cameras/recording.py``). Folders are held open, not remembered by
path: an episode that is moved into the outbox, or on, meanwhile can be read to its end.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from shared.episode import frame_timestamp_us


class GrowingImages:
    """The images of one episode. Close it.

    Args:
        folder: ``images/`` of the episode, with ``{camera}/{timestamp_us}.jpg`` below it; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: int | None = None
        self._cameras: dict[str, int] = {}
        self._seen: dict[str, set[str]] = {}

    def close(self) -> None:
        """Let go of the folders."""
        for descriptor in (*self._cameras.values(), *(() if self._images is None else (self._images,))):
            os.close(descriptor)
        self._images, self._cameras = None, {}

    def new(self) -> list[str]:
        """Return ``{camera}/{name}`` of the images that were not returned before, by camera and time.

        Raises:
            OSError: a folder cannot be read.
        """
        with suppress(FileNotFoundError):
            self._open_new_cameras()
        found: list[str] = []
        for camera, descriptor in sorted(self._cameras.items()):
            seen = self._seen.setdefault(camera, set())
            names = set(os.listdir(descriptor)) - seen  # noqa: PTH208 - no path leads there once the folder has moved
            images = sorted(name for name in names if frame_timestamp_us(name) is not None)
            seen.update(images)
            found.extend(f"{camera}/{name}" for name in images)
        return found

    def read(self, image: str) -> bytes | None:
        """Return the content of an image that ``new`` has returned; None if it is gone.

        Raises:
            OSError: it cannot be read.
        """
        camera, _, name = image.partition("/")
        try:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=self._cameras[camera])
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _open_new_cameras(self) -> None:
        if self._images is None:
            self._images = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        for camera in os.listdir(self._images):  # noqa: PTH208 - as above
            if camera not in self._cameras and not camera.startswith("."):
                with suppress(NotADirectoryError):
                    self._cameras[camera] = os.open(camera, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._images)
