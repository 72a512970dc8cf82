"""The door to Rerun: shows camera images and joints in a viewer, or writes them to a file, without delaying a camera.

A thread of its own logs what fits: at most ten images per second and camera; what comes while it is busy is left out.
"""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable

if TYPE_CHECKING:
    import rerun

_IMAGE_INTERVAL_US = 100_000
_CAPACITY = 64
_CONNECT_TIMEOUT_S = 2.0
_FLUSH_TIMEOUT_S = 2.0
_VIEWER = "127.0.0.1:9876"
"""Where a viewer listens that was started here; one that runs already is used again."""

_NAME = "episodeflow"
NO_SCREEN = (
    "there is no screen here for the viewer of --display_data: recording goes on without it; give HOST:PORT of a viewer, or a file *.rrd"
)


class Display:
    """Where images and joints are shown.

    Args:
        place: ``spawn`` (a viewer on this screen), ``HOST:PORT`` of a viewer, or a path ``*.rrd``.

    Raises:
        CameraRefused: Rerun is not installed, or ``place`` is none of these.
        CameraUnreachable: no viewer listens there, or none can be started.
    """

    def __init__(self, place: str) -> None:
        self._stream = _opened(place)
        self._last_us: dict[str, int] = {}
        self._waiting: queue.Queue[tuple[int, str, bytes | Mapping[str, float]] | None] = queue.Queue(_CAPACITY)
        self._thread = threading.Thread(target=self._log_all, name="display", daemon=True)
        self._thread.start()

    def image(self, camera: str, captured_us: int, data: bytes) -> None:
        """Show a JPEG file, unless the camera's last one was shown a moment ago; never waits."""
        if captured_us - self._last_us.get(camera, 0) < _IMAGE_INTERVAL_US:
            return
        self._last_us[camera] = captured_us
        self._offer((captured_us, camera, data))

    def joints(self, joints: Mapping[str, float], time_us: int) -> None:
        """Show joints by name; never waits."""
        self._offer((time_us, "", joints))

    def close(self) -> None:
        """Bring what waits to the viewer or the file, within two seconds."""
        try:
            self._waiting.put(None, timeout=_FLUSH_TIMEOUT_S)
        except queue.Full:
            return  # the viewer hangs: the thread ends with the process
        self._thread.join(_FLUSH_TIMEOUT_S)

    @property
    def is_busy(self) -> bool:
        """Whether something has not been brought to the viewer or the file yet."""
        return self._thread.is_alive()

    def _offer(self, item: tuple[int, str, bytes | Mapping[str, float]]) -> None:
        if not self._waiting.full():
            self._waiting.put_nowait(item)

    def _log_all(self) -> None:
        import rerun  # noqa: PLC0415 - an optional extra, loaded when it is asked for

        stream = self._stream
        while (item := self._waiting.get()) is not None:
            time_us, camera, content = item
            stream.set_time("time", timestamp=np.datetime64(time_us, "us"))
            if isinstance(content, bytes):
                stream.log(f"cameras/{camera}", rerun.EncodedImage(contents=content, media_type="image/jpeg"))
                continue
            for name, value in content.items():
                stream.log(f"joints/{name}", rerun.Scalars(value))
        with suppress(RuntimeError):  # somebody closed the viewer: what it did not show is in the episode
            stream.flush(timeout_sec=_FLUSH_TIMEOUT_S)
        stream.disconnect()


def display(place: str | None, *, has_screen: bool) -> tuple[Display | None, str | None]:
    """Return the display and, where a viewer was asked for on a host without a screen, why there is none.

    Args:
        place: see ``Display``; ``""`` is ``spawn``, None: off.
        has_screen: whether a window can open here.

    Raises:
        CameraRefused: Rerun is not installed, or ``place`` is unknown.
        CameraUnreachable: no viewer listens there, or none can be started.
    """
    if place is None:
        return None, None
    if place in {"", "spawn"} and not has_screen:
        return None, NO_SCREEN
    return Display(place or "spawn"), None


def _opened(place: str) -> rerun.RecordingStream:
    try:
        import rerun  # noqa: PLC0415 - an optional extra, loaded when it is asked for
    except ImportError as error:
        raise CameraRefused("--display_data=true needs Rerun, which is not installed: pip install 'episodeflow[display]'") from error
    stream = rerun.RecordingStream(_NAME)
    try:
        if place == "spawn":
            stream.spawn(connect=False)
            stream.connect_grpc(f"rerun+http://{_probed(_VIEWER)}/proxy")
        elif place.endswith(".rrd"):
            stream.save(place)
        else:
            stream.connect_grpc(f"rerun+http://{_probed(place)}/proxy")
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CameraUnreachable(f"the display {place!r} cannot be opened ({reason}); use --display_data=false to go without") from error
    return stream


def _probed(place: str) -> str:
    """Return a viewer's address once something listens there: Rerun itself would try for ever without a word."""
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal():
        raise CameraRefused(f"the display {place!r} is unknown, expected 'spawn', HOST:PORT of a Rerun viewer, or a file *.rrd")
    with socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S):
        return place
