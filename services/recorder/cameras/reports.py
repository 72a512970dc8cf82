"""What is told about a camera: its state now, what went wrong, and how an episode's frames came. Pure."""

from __future__ import annotations

import msgspec

LATE_PERIODS = 1.5
"""A frame that comes later than so many periods after the one before is late."""


class CameraStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A camera now: its rate in Hz over the last seconds, and whether frames come."""

    fps: float
    is_delivering: bool


class CameraProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a camera, in one sentence that names it; with ``is_over`` the sentence says that it is well again."""

    camera: str
    message: str
    is_over: bool = False


class CameraReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the frames of one camera came during one episode.

    Attributes:
        num_frames: files that were written.
        first_us: time of the first of them; None without any.
        last_us: time of the last of them.
        num_late: how often the next frame came later than 1.5 periods after the one before.
        longest_gap_ms: the longest time without a frame, from the start of the episode to its end.
        num_lost: frames that were captured and could not be written: the disk was too slow, full or failed.
        num_damaged: frames that arrived damaged from the camera, and were not written.
        num_repeated: frames that hold the very bytes of the one before; they are written.
        measured_fps: rate of the frames that were written; 0 with fewer than two.
        problem: what went wrong, in one sentence that names the camera; None if nothing did.
    """

    num_frames: int
    first_us: int | None
    last_us: int | None
    num_late: int
    longest_gap_ms: float
    num_lost: int
    num_damaged: int
    num_repeated: int
    measured_fps: float
    problem: str | None


class FrameTally:
    """Counts the frames of one camera during one episode.

    Args:
        fps: the rate that was asked for.
        start_us: when the episode began.
    """

    def __init__(self, *, fps: int, start_us: int) -> None:
        self._late_us = LATE_PERIODS * 1e6 / fps
        self._start_us = start_us
        self._first_us: int | None = None
        self._last_us: int | None = None
        self._longest_gap_us = 0
        self._num_frames = 0
        self._num_late = 0

    def add(self, captured_us: int) -> None:
        """Count a written frame."""
        if self._last_us is None:
            self._first_us = captured_us
        elif captured_us - self._last_us > self._late_us:
            self._num_late += 1
        self._longest_gap_us = max(self._longest_gap_us, captured_us - (self._last_us or self._start_us))
        self._last_us = captured_us
        self._num_frames += 1

    def report(self, *, end_us: int, num_lost: int, num_damaged: int, num_repeated: int, problem: str | None) -> CameraReport:
        """Return the report of an episode that ended at ``end_us``."""
        first_us, last_us = self._first_us, self._last_us
        span_us = 0 if first_us is None or last_us is None else last_us - first_us
        tail_us = end_us - (last_us or self._start_us)
        return CameraReport(
            num_frames=self._num_frames,
            first_us=first_us,
            last_us=last_us,
            num_late=self._num_late,
            longest_gap_ms=max(self._longest_gap_us, tail_us) / 1000,
            num_lost=num_lost,
            num_damaged=num_damaged,
            num_repeated=num_repeated,
            measured_fps=round((self._num_frames - 1) * 1e6 / span_us, 3) if span_us else 0.0,
            problem=problem,
        )
