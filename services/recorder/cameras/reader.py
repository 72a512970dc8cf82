"""One thread per camera: waits for frames, hands them to the recording and the display, opens the camera again when it is gone.

    warming up ──▶ reading ──(no frame)──▶ opening again, every half second ──▶ reading …

Nothing is decoded, copied or checked while nobody wants the frame. A frame's time is that of its capture; two frames
never have the same one. A camera counts as stopped when it says so or has been silent for too long (`pace`); it is told
once, and once more when it is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable, sentence
from services.recorder.cameras.jpeg import Jpeg
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.pace import Pace
from services.recorder.cameras.recording import Recording
from services.recorder.cameras.reports import CameraProblem, CameraReport, CameraStatus
from services.recorder.cameras.sources import Opener, Source
from services.recorder.clock import Clock

_REOPEN_INTERVAL_S = 0.5
_CLOSE_TIMEOUT_S = 2.0
_LAST_FRAME_S = 0.05
_NUM_DAMAGED_FIRST = 30

OnProblem = Callable[[CameraProblem], None]
OnImage = Callable[[str, int, bytes], None]
"""Called with the camera's name, the time of capture in microseconds and a JPEG file."""


class Reader:
    """Reads one camera until closed.

    Args:
        name: the camera's.
        options: what was asked for.
        open_camera: opens it, again and again.
        clock: gives the frames their times.
        on_problem: called from any thread.
        on_image: called from the reader's thread with every frame; None: nobody looks.
    """

    def __init__(
        self,
        name: str,
        options: CameraOptions,
        *,
        open_camera: Opener,
        clock: Clock,
        on_problem: OnProblem,
        on_image: OnImage | None = None,
    ) -> None:
        self.name = name
        self._options = options
        self._open_camera = open_camera
        self._clock = clock
        self._on_problem = on_problem
        self._on_image = on_image
        self._pace = Pace(options.period_s)
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._ready: Future[None] = Future()
        self._source: Source | None = None
        self._recording: Recording | None = None
        self._handled_us = 0
        self._last_us = 0
        self._is_busy = False
        self._outage: str | None = None
        self._outage_since_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)

    def start(self) -> None:
        """Begin to open the camera and to warm it up."""
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the camera has warmed up.

        Raises:
            CameraRefused: it is not what the options say.
            CameraUnreachable: it does not answer, or showed no frame in time.
        """
        try:
            self._ready.result(timeout_s)
        except TimeoutError:
            problem = f"is open but showed no frame within {timeout_s:g} s: plug it in again, or give it another USB port (bandwidth)"
            raise CameraUnreachable(sentence(self.name, self._options.index_or_path, problem)) from None

    def begin(self, folder: Path, *, start_us: int) -> None:
        """Have every frame captured from ``start_us`` on written to ``folder``.

        Raises:
            CameraUnreachable: the folder cannot be made.
        """
        recording = Recording(folder, fps=self._options.fps, start_us=start_us, on_problem=self._tell)
        with self._changed:
            if self._outage:
                recording.note(self._outage)
            self._recording = recording

    def end(self, *, end_us: int) -> CameraReport:
        """Write what was captured until ``end_us`` and return the report.

        A camera hands a frame over some time after its capture: the next frame shows that none is on its way any more.
        """
        recording = self._taken(end_us)
        return recording.close(end_us=end_us)

    def discard(self) -> None:
        """Write nothing more of this episode."""
        with self._changed:
            recording, self._recording = self._recording, None
        if recording:
            recording.discard()

    def watch(self) -> CameraStatus:
        """Tell of a silence that has lasted for too long, and return how the camera is."""
        now_s = time.monotonic()
        with self._changed:
            status = self._pace.status(now_s)
            silence_s = self._pace.silence_s(now_s)
            is_silent = self._pace.is_silent(now_s)
        if is_silent:
            self._begin_outage(f"has sent no frame for {silence_s:.1f} s; it is opened again as soon as it answers: check its cable")
        return status

    def close(self) -> None:
        """Let the camera go; a driver that does not return is left behind."""
        self._closing.set()
        self.discard()
        if self._source:
            self._source.interrupt()
        self._thread.join(_CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._source = self._open_camera()
            self._warm_up(self._source)
            self._ready.set_result(None)
            while not self._closing.is_set():
                if not self._take(self._source) and not self._closing.is_set():
                    self._begin_outage("gives no frames any more; it is opened again as soon as it is there: check its cable")
                    self._source = self._reopened(self._source)
        except (CameraRefused, CameraUnreachable) as error:
            self._ready.set_exception(error)
        finally:
            if self._source:
                self._source.close()

    def _warm_up(self, source: Source) -> None:
        self._check_size(self._first_frame(source))
        with self._changed:
            self._pace.add(time.monotonic())
        settled_s = time.monotonic() + self._options.warmup_s
        while time.monotonic() < settled_s and not self._closing.is_set() and self._take(source):
            pass

    def _first_frame(self, source: Source) -> Jpeg:
        place = self._options.index_or_path
        problem = "it sends nothing"
        for _ in range(_NUM_DAMAGED_FIRST):  # many cameras begin with damaged frames
            if source.grab() is None:
                break
            try:
                return source.retrieve()
            except ValueError as error:
                problem = f"it {error}"
        raise CameraUnreachable(
            sentence(self.name, place, f"is open but shows no whole frame ({problem}): plug it in again, or check its cable")
        )

    def _check_size(self, frame: Jpeg) -> None:
        found = f"{frame.width_px}x{frame.height_px}"
        asked = f"{self._options.width}x{self._options.height}"
        if found != asked:
            problem = f"found {found}, asked for {asked}: set width and height to the size that the camera delivers"
            raise CameraRefused(sentence(self.name, self._options.index_or_path, problem))

    def _take(self, source: Source) -> bool:
        """Wait for a frame and deal with it; return whether one came."""
        captured_s = source.grab()
        if captured_s is None:
            return False
        captured_us = self._last_us = max(self._clock.at_us(captured_s), self._last_us + 1)
        with self._changed:
            self._pace.add(time.monotonic())
            recording = self._recording if self._recording and self._recording.wants(captured_us) else None
            self._is_busy = True
        self._end_outage()
        if self._on_image or recording:
            self._keep(source, captured_us, recording)
        with self._changed:
            self._is_busy = False
            self._handled_us = captured_us
            self._changed.notify_all()
        return True

    def _keep(self, source: Source, captured_us: int, recording: Recording | None) -> None:
        try:
            frame = source.retrieve()
        except ValueError as error:
            if recording:
                recording.count_damaged(captured_us, str(error))
            return
        if recording:
            recording.offer(captured_us, frame.data)
        if self._on_image:
            self._on_image(self.name, captured_us, frame.data)

    def _taken(self, end_us: int) -> Recording:
        """Return the recording once no frame captured until ``end_us`` can come any more."""
        longest_s = min(2 * self._options.period_s, self._options.period_s + _LAST_FRAME_S)
        with self._changed:
            if self._recording is None:
                raise ValueError(f"camera {self.name} records nothing that could end")
            self._recording.end_at(end_us)
            if not self._outage:
                self._changed.wait_for(lambda: self._handled_us > end_us, longest_s)
            self._changed.wait_for(lambda: not self._is_busy)
            recording, self._recording = self._recording, None
        return recording

    def _reopened(self, source: Source) -> Source:
        source.close()
        while True:
            if self._closing.wait(_REOPEN_INTERVAL_S):
                return source
            try:
                return self._open_camera()
            except (CameraRefused, CameraUnreachable):
                continue  # it was told when it went; the next attempt may succeed

    def _begin_outage(self, problem: str) -> None:
        with self._changed:
            if self._outage:
                return
            self._outage = sentence(self.name, self._options.index_or_path, problem)
            self._outage_since_s = time.monotonic() - self._pace.silence_s(time.monotonic())
            recording = self._recording
        if recording:
            recording.note(self._outage)
        else:
            self._tell(self._outage)

    def _end_outage(self) -> None:
        if self._outage is None:
            return
        with self._changed:
            self._outage = None
            lasted_s = time.monotonic() - self._outage_since_s
        message = sentence(self.name, self._options.index_or_path, f"delivers again after {lasted_s:.1f} s without a frame")
        self._on_problem(CameraProblem(camera=self.name, message=message, is_over=True))

    def _tell(self, problem: str) -> None:
        self._on_problem(CameraProblem(camera=self.name, message=problem))
