"""The alignment report: what alignment did to time, per stream, so that nothing is silently stretched. Pure.

It goes into the manifest of the episode and into the summary of a run; every number can be recomputed from the raw files.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter.alignment import AlignmentPlan, Rows
from services.converter.timelines import tick_us

IntArray = NDArray[np.int64]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Half, 95 % and all of the values are at most this many milliseconds."""

    p50_ms: float
    p95_ms: float
    max_ms: float


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm or camera brought and what the rows made of it.

    Attributes:
        num_samples: samples or frames in the raw episode.
        rate_hz: measured, ``(S - 1) / (last - first)``.
        error: distance in time between a row and what it uses of this stream.
        num_held: rows that repeat the last sample because none was within tolerance.
        num_repeated: rows that show the frame of the row before (cameras).
        num_unused: frames that no row shows (cameras).
        jitter: distance of the intervals between samples from their median.
        max_gap_ms, max_gap_at_us: the longest interval and the time at which it begins.
    """

    num_samples: int
    rate_hz: float
    error: Spread
    num_held: int
    num_repeated: int
    num_unused: int
    jitter: Spread
    max_gap_ms: float
    max_gap_at_us: int


class AlignmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """How the rows of an episode lie in time.

    Attributes:
        strategy, timeline, fps: the rules that made the rows.
        num_rows, num_dropped: rows in the dataset, and rows left out for a stream beyond its tolerance.
        first_us, last_us: true times of the first and last row.
        drift: distance between a row's true time and the time ``first + i/fps`` the dataset gives it.
        streams: by arm and camera.
    """

    strategy: str
    timeline: str
    fps: int
    num_rows: int
    num_dropped: int
    first_us: int
    last_us: int
    drift: Spread
    streams: dict[str, StreamReport]

    @property
    def worst_error(self) -> Spread:
        """The largest errors of any stream."""
        errors = [stream.error for stream in self.streams.values()]
        return Spread(
            p50_ms=max(error.p50_ms for error in errors),
            p95_ms=max(error.p95_ms for error in errors),
            max_ms=max(error.max_ms for error in errors),
        )


class Timing:
    """Collects when the samples of one stream were taken, in any number of portions; four bytes a sample."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.first_us = 0
        self.last_us = 0
        self._intervals: list[NDArray[np.int32]] = []
        self._max_gap_us, self._max_gap_at_us = 0, 0

    @classmethod
    def of(cls, times_us: IntArray) -> Timing:
        """Return the timing of times (S,) that are all there, S >= 1."""
        timing = cls()
        timing.add(times_us)
        return timing

    def add(self, times_us: IntArray) -> None:
        """Add times (S,) that follow those added before."""
        if not self.num_samples:
            self.first_us = self.last_us = int(times_us[0])
            self._max_gap_at_us = self.first_us
        intervals = np.diff(times_us, prepend=self.last_us)[0 if self.num_samples else 1 :]
        self.num_samples += len(times_us)
        self.last_us = int(times_us[-1])
        if len(intervals):
            widest = int(np.argmax(intervals))
            if intervals[widest] > self._max_gap_us:
                self._max_gap_us = int(intervals[widest])
                self._max_gap_at_us = int(times_us[widest + len(times_us) - len(intervals)]) - self._max_gap_us
            self._intervals.append(np.minimum(intervals, np.iinfo(np.int32).max).astype(np.int32))

    @property
    def max_gap_us(self) -> int:
        """The longest interval between two samples."""
        return self._max_gap_us

    @property
    def rate_hz(self) -> float:
        """Samples per second over the whole stream, 0 for a single sample."""
        span_us = self.last_us - self.first_us
        return (self.num_samples - 1) * 1e6 / span_us if span_us else 0.0

    @property
    def intervals_us(self) -> NDArray[np.int32]:
        """All intervals between samples, (S - 1,)."""
        return np.concatenate(self._intervals) if self._intervals else np.empty(0, np.int32)

    def report(self, *, errors_us: IntArray, num_held: int, used: IntArray | None) -> StreamReport:
        """Return what the stream brought; ``used`` are the frames the rows show (N,), None for an arm."""
        intervals = self.intervals_us
        return StreamReport(
            num_samples=self.num_samples,
            rate_hz=round(self.rate_hz, 3),
            error=spread(errors_us),
            num_held=num_held,
            num_repeated=0 if used is None else int((np.diff(used) == 0).sum()),
            num_unused=0 if used is None else self.num_samples - len(np.unique(used)),
            jitter=spread(intervals - np.median(intervals) if len(intervals) else intervals),
            max_gap_ms=self._max_gap_us / 1000,
            max_gap_at_us=self._max_gap_at_us,
        )


def spread(differences_us: NDArray[np.generic]) -> Spread:
    """Return how large differences in microseconds are, sign aside; zeros for none."""
    if not len(differences_us):
        return Spread(p50_ms=0.0, p95_ms=0.0, max_ms=0.0)
    p50, p95, largest = np.percentile(np.abs(differences_us), [50, 95, 100]) / 1000
    return Spread(p50_ms=round(float(p50), 3), p95_ms=round(float(p95), 3), max_ms=round(float(largest), 3))


def alignment_report(rows: Rows, plan: AlignmentPlan, timings: dict[str, Timing]) -> AlignmentReport:
    """Return the report of an episode.

    Args:
        rows: all rows of the episode, at least one.
        plan: the rules that made them.
        timings: by arm and camera, over the whole raw episode.
    """
    true_us = rows.times_us - rows.times_us[0]
    return AlignmentReport(
        strategy=plan.strategy,
        timeline=plan.timeline,
        fps=plan.fps,
        num_rows=len(rows.times_us),
        num_dropped=rows.num_dropped,
        first_us=int(rows.times_us[0]),
        last_us=int(rows.times_us[-1]),
        drift=spread(true_us - tick_us(np.arange(len(true_us)), plan.fps)),
        streams={
            stream: timing.report(errors_us=rows.errors_us[stream], num_held=rows.num_held[stream], used=rows.frame_indices.get(stream))
            for stream, timing in timings.items()
        },
    )
