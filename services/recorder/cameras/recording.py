"""The files of one camera during one episode: a thread writes what its reader offers, so that a slow disk delays no frame.

Every frame that was offered is written or counted as lost. A file gets its name when it is complete: whoever finds it may send it
away. Files are not synced to the disk here; who makes the episode durable does that.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from services.recorder.cameras.errors import CameraUnreachable
from services.recorder.cameras.reports import CameraReport, FrameTally
from shared.store_object import TEMPORARY_PREFIX

CAPACITY = 256
"""How many frames may wait for the disk: some eight seconds."""


class Recording:
    """One camera's frames of one episode.

    Args:
        folder: where ``{timestamp_us}.jpg`` go, named by the camera; made if missing.
        fps: the rate that was asked for.
        start_us: when the episode began.
        on_problem: called with a sentence, from any thread, when a frame is lost for the first time.
        capacity: how many frames may wait for the disk.

    Raises:
        CameraUnreachable: the folder cannot be made.
    """

    def __init__(self, folder: Path, *, fps: int, start_us: int, on_problem: Callable[[str], None], capacity: int = CAPACITY) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CameraUnreachable(
                f"the folder of frames {folder} cannot be made: {error.strerror}; check the disk of the recorder"
            ) from error
        self._start_us = start_us
        self._end_us: int | None = None
        self._folder = folder
        self._on_problem = on_problem
        self._tally = FrameTally(fps=fps, start_us=start_us)
        self._waiting: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        self._capacity = capacity
        self._is_discarded = False
        self._num_crowded_out = self._num_unwritten = self._num_damaged = self._num_repeated = 0
        self._problem: str | None = None
        self._previous = b""
        self._thread = threading.Thread(target=self._write_all, name=f"write {folder.name}", daemon=True)
        self._thread.start()

    def wants(self, captured_us: int) -> bool:
        """Return whether a frame captured then belongs to the episode."""
        return captured_us >= self._start_us and (self._end_us is None or captured_us <= self._end_us)

    def end_at(self, end_us: int) -> None:
        """Want no frame captured after ``end_us``."""
        self._end_us = end_us

    def offer(self, captured_us: int, data: bytes) -> None:
        """Have a frame written, without waiting; called by one thread."""
        if self._waiting.qsize() >= self._capacity:
            self._num_crowded_out += 1
            problem = f"the disk is too slow: {self._capacity} frames wait to be written to {self._folder}, further ones are lost"
            self.note(f"camera {self._folder.name}: {problem}")
            return
        self._waiting.put((captured_us, data))

    def count_damaged(self, captured_us: int, problem: str) -> None:
        """Count a frame that arrived damaged."""
        self._num_damaged += 1
        if self._problem is None:
            found = f"the frame of {captured_us} us arrived damaged and is not kept: it {problem}"
            self._problem = f"camera {self._folder.name}: {found}; check cable and USB port"

    def note(self, problem: str) -> None:
        """Have the report of the episode say what went wrong; the first sentence stays."""
        if self._problem is None:
            self._problem = problem
            self._on_problem(problem)

    def close(self, *, end_us: int) -> CameraReport:
        """Write what waits and return the report of an episode that ended at ``end_us``."""
        self._waiting.put(None)
        self._thread.join()
        return self._tally.report(
            end_us=end_us,
            num_lost=self._num_crowded_out + self._num_unwritten,
            num_damaged=self._num_damaged,
            num_repeated=self._num_repeated,
            problem=self._problem,
        )

    def discard(self) -> None:
        """Write nothing more."""
        self._is_discarded = True
        self._waiting.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            if not self._is_discarded:
                self._write(*item)

    def _write(self, captured_us: int, data: bytes) -> None:
        path = self._folder / f"{captured_us}.jpg"
        unfinished = path.with_name(f"{TEMPORARY_PREFIX}{path.name}")
        try:
            unfinished.write_bytes(data)
            unfinished.rename(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            self._num_unwritten += 1
            self.note(f"camera {self._folder.name}: the frame {path} cannot be written: {error.strerror}; check the disk of the recorder")
            return
        self._tally.add(captured_us)
        self._num_repeated += data == self._previous
        self._previous = data
