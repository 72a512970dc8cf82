"""All cameras of the robot inside the camera process: opens them together, starts and ends episodes, watches them.

Knows no pipe and no parent: it is asked by messages and tells its news by a function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from services.recorder.cameras.devices import check_distinct
from services.recorder.cameras.display import display
from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.messages import (
    Discard,
    Discarded,
    Message,
    Open,
    Opened,
    Problem,
    Refusal,
    Request,
    Show,
    Start,
    Started,
    Status,
    Stop,
    Stopped,
)
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.reader import Reader
from services.recorder.cameras.reports import CameraReport
from services.recorder.cameras.sources import opener
from services.recorder.clock import Clock

FIRST_FRAME_S = 8.0
"""How long a camera may take to open and show a frame, before it warms up."""

_WATCH_INTERVAL_S = 0.1
_STATUS_INTERVAL_S = 1.0


class Rig:
    """The cameras of one robot.

    Args:
        tell: takes news and replies; called from any thread.
        has_screen: whether a window can open here.
    """

    def __init__(self, tell: Callable[[Message], None], *, has_screen: bool) -> None:
        self._tell = tell
        self._has_screen = has_screen
        self._readers: list[Reader] = []
        self._display, self._display_problem = display(None, has_screen=has_screen)
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    def handle(self, request: Request) -> None:
        """Do what a message asks for and tell the outcome; ``Show`` has none."""
        try:
            reply = self._done(request)
        except CameraRefused as error:
            reply = Refusal("refused", str(error))
        except CameraUnreachable as error:
            reply = Refusal("unreachable", str(error))
        if reply:
            self._tell(reply)

    def close(self) -> None:
        """Let all cameras and the display go."""
        self._closing.set()
        closers = [threading.Thread(target=reader.close, daemon=True) for reader in self._readers]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()
        if self._display:
            self._display.close()

    def _done(self, request: Request) -> Message | None:
        match request:
            case Open():
                self._open(request)
                return Opened(self._display_problem)
            case Start(folder, start_us):
                self._begin(Path(folder), start_us=start_us)
                return Started()
            case Stop(end_us):
                return Stopped(self._ended(end_us))
            case Discard():
                for reader in self._readers:
                    reader.discard()
                return Discarded()
            case Show(joints, time_us):
                if self._display:
                    self._display.joints(joints, time_us)
        return None

    def _open(self, request: Open) -> None:
        check_distinct(request.cameras)
        self._display, self._display_problem = display(request.display, has_screen=self._has_screen)
        self._readers = [self._reader(name, options, Clock(request.offset_ns)) for name, options in request.cameras.items()]
        for reader in self._readers:
            reader.start()
        self._wait_ready(request.cameras)
        self._watcher.start()

    def _reader(self, name: str, options: CameraOptions, clock: Clock) -> Reader:
        return Reader(
            name,
            options,
            open_camera=opener(name, options),
            clock=clock,
            on_problem=lambda problem: self._tell(Problem(problem)),
            on_image=self._display.image if self._display else None,
        )

    def _wait_ready(self, cameras: Mapping[str, CameraOptions]) -> None:
        """Wait for all cameras; what is wrong with several of them is told together."""
        errors: list[CameraRefused | CameraUnreachable] = []
        deadline_s = time.monotonic() + FIRST_FRAME_S + max((options.warmup_s for options in cameras.values()), default=0)
        for reader in self._readers:
            try:
                reader.wait_ready(max(0.0, deadline_s - time.monotonic()))
            except (CameraRefused, CameraUnreachable) as error:
                errors.append(error)
        if errors:
            kind = CameraRefused if any(isinstance(error, CameraRefused) for error in errors) else CameraUnreachable
            raise kind("; ".join(str(error) for error in errors))

    def _begin(self, folder: Path, *, start_us: int) -> None:
        try:
            for reader in self._readers:
                reader.begin(folder / reader.name, start_us=start_us)
        except CameraUnreachable:
            for reader in self._readers:
                reader.discard()
            raise

    def _ended(self, end_us: int) -> dict[str, CameraReport]:
        """End all cameras at once, so that the longest wait counts and not their sum."""
        reports: dict[str, CameraReport] = {}

        def end(reader: Reader) -> None:
            reports[reader.name] = reader.end(end_us=end_us)

        threads = [threading.Thread(target=end, args=(reader,)) for reader in self._readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {reader.name: reports[reader.name] for reader in self._readers}

    def _watch(self) -> None:
        told_s = 0.0
        while not self._closing.wait(_WATCH_INTERVAL_S):
            statuses = {reader.name: reader.watch() for reader in self._readers}
            if time.monotonic() - told_s >= _STATUS_INTERVAL_S:
                told_s = time.monotonic()
                self._tell(Status(statuses))
