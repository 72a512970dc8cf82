"""Indices into sorted timelines, and the part of an arm's samples that rows can still need. Pure numpy.

Letters: S samples, T targets, J joints, W samples in the widest window. Times are int64 microseconds, strictly increasing.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_MAX_GATHERED = 1 << 20
"""Values gathered at once for a median: bounds the memory of wide windows."""


def tick_us(index: Any, rate_hz: int) -> Any:
    """Return the time of tick ``index`` (int or int64 array) at ``rate_hz``, rounded to the nearest microsecond."""
    return (index * 2_000_000 + rate_hz) // (2 * rate_hz)


def nearest_indices(times_us: IntArray, targets_us: IntArray) -> IntArray:
    """Return for each target the index of the closest time, ties to the earlier.

    Args:
        times_us: (S,), S >= 1.
        targets_us: (T,).

    Returns:
        (T,) int64.
    """
    after = np.minimum(np.searchsorted(times_us, targets_us), len(times_us) - 1)
    before = np.maximum(after - 1, 0)
    is_before = targets_us - times_us[before] <= times_us[after] - targets_us
    return np.where(is_before, before, after)


def latest_indices(times_us: IntArray, targets_us: IntArray) -> IntArray:
    """Return for each target the index of the last time not after it, 0 if there is none; shapes as ``nearest_indices``."""
    return np.maximum(np.searchsorted(times_us, targets_us, "right") - 1, 0)


def window_aggregate(
    times_us: IntArray, values: FloatArray, targets_us: IntArray, *, window_us: int, aggregation: Literal["mean", "median"]
) -> tuple[FloatArray, IntArray]:
    """Aggregate the samples with ``|time - target| <= window_us``, per joint.

    Args:
        times_us: (S,).
        values: (S, J).
        targets_us: (T,).
        window_us: half width, inclusive.
        aggregation: ``mean`` or ``median`` (of an even count: the mean of the two in the middle).

    Returns:
        (T, J) aggregates, anything where the window is empty, and (T,) how many samples each window has.
    """
    starts = np.searchsorted(times_us, targets_us - window_us, "left")
    stops = np.searchsorted(times_us, targets_us + window_us, "right")
    counts = stops - starts
    result = np.zeros((len(targets_us), values.shape[1]))
    filled = np.flatnonzero(counts)
    if aggregation == "mean":
        result[filled] = _sums(values, starts[filled], stops[filled]) / counts[filled, None]
    else:
        step = max(1, _MAX_GATHERED // max(1, int(counts.max(initial=1)) * values.shape[1]))
        for begin in range(0, len(filled), step):
            some = filled[begin : begin + step]
            result[some] = _medians(values, starts[some], counts[some])
    return result, counts


def _sums(values: FloatArray, starts: IntArray, stops: IntArray) -> FloatArray:
    """Sum the spans in order, as ``values[start:stop].sum(axis=0)`` does: the same bits wherever a block begins."""
    if not len(starts):
        return np.empty((0, values.shape[1]))
    bounded = np.concatenate([values, np.zeros((1, values.shape[1]))])
    return np.add.reduceat(bounded, np.stack([starts, stops], axis=1).ravel(), axis=0)[::2]


def _medians(values: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
    offsets = np.arange(int(counts.max(initial=1)))
    indices = np.minimum(starts[:, None] + offsets, len(values) - 1)
    gathered = np.where((offsets < counts[:, None])[:, :, None], values[indices], np.inf)
    gathered.sort(axis=1)
    lower = np.take_along_axis(gathered, ((counts - 1) // 2)[:, None, None], axis=1)[:, 0]
    upper = np.take_along_axis(gathered, (counts // 2)[:, None, None], axis=1)[:, 0]
    medians: FloatArray = (lower + upper) / 2
    return medians


class JointBuffer:
    """The samples of one arm that rows can still need."""

    def __init__(self) -> None:
        self._times: list[IntArray] = []
        self._values: list[FloatArray] = []
        self.first_us: int | None = None

    def push(self, times_us: IntArray, values: FloatArray) -> None:
        """Add samples, (S,) and (S, J), after all that were pushed before."""
        if not len(times_us):
            return
        if self.first_us is None:
            self.first_us = int(times_us[0])
        self._times.append(times_us)
        self._values.append(values)

    @property
    def times_us(self) -> IntArray:
        """The times that are kept, (S,)."""
        if len(self._times) > 1:
            self._times = [np.concatenate(self._times)]
        return self._times[0]

    @property
    def values(self) -> FloatArray:
        """The values that are kept, (S, J)."""
        if len(self._values) > 1:
            self._values = [np.concatenate(self._values)]
        return self._values[0]

    @property
    def last_us(self) -> int:
        """Time of the last sample."""
        return int(self._times[-1][-1])

    def forget_before(self, time_us: int, *, reach_us: int) -> None:
        """Drop what no row after ``time_us`` needs, when windows reach ``reach_us`` back; the latest sample stays."""
        latest = int(np.searchsorted(self.times_us, time_us, "right")) - 1
        within_reach = int(np.searchsorted(self.times_us, time_us - reach_us))
        first_kept = max(0, min(latest, within_reach))
        self._times = [self.times_us[first_kept:].copy()]
        self._values = [self.values[first_kept:].copy()]
