"""Alignment: streams with clocks of their own become rows. Pure; arrays in, arrays out.

Letters: N rows, S samples, J joints per arm, K chunk. Time is int64 microseconds until the last step.

Theory of operation. The timeline says which times rows have; every camera and every arm is then asked, on its own, what
it has at those times; at the end the answers are laid side by side and rows in a gap are dropped, held or rejected. An
arm answers while its samples are still coming in: a row is final once the samples have passed its time plus the
lookahead (the chunk or the window), and only what a later row can still need is kept. Memory does not grow with the
episode, and the rows are the same whatever portions the samples came in: a property test holds this.

- Rows. ``base``: one per base-camera frame. ``uniform``: ticks ``first base frame + i/fps`` in integer arithmetic.
  Rows lie where all arms and cameras overlap.
- Cameras: the nearest frame to the row's time, ties to the earlier, within ``image_tolerance_us``.
- Joints ``nearest``: the closest sample, ties to the earlier, within ``tolerance_us``. ``window``: mean or median of
  all samples with |dt| <= ``window_us``; an empty window falls back to nearest. ``chunking``: states nearest, action step
  i nearest to ``t + i/joints_fps``; steps past the arm's last sample are padded.
- A held stream repeats its last sample before the row.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter.timelines import JointBuffer, latest_indices, nearest_indices, tick_us, window_aggregate
from shared.errors import BadRaw

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


class AlignmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What alignment needs to know, in integers.

    Attributes:
        strategy: how joints are taken.
        timeline: ``base`` or ``uniform``.
        fps: rows per second of the dataset.
        arms: names, in the order of the configuration.
        action_arms: those whose joints are the action.
        cameras: names of the cameras that are used.
        base_camera: the one that gives the timeline.
        tolerance_us, image_tolerance_us, window_us: bounds for |dt|, inclusive.
        chunk_size: K, steps of an action; 1 unless chunking.
        joints_fps: steps per second inside a chunk.
        padding_mode, padding_value: what stands past an arm's last sample.
        aggregation: of a window.
        on_gap: what happens to a row with a stream beyond its tolerance.
        max_rows: later rows are not made; None: all that can be.
    """

    strategy: Literal["nearest", "chunking", "window"]
    timeline: Literal["base", "uniform"]
    fps: int
    arms: tuple[str, ...]
    action_arms: tuple[str, ...]
    cameras: tuple[str, ...]
    base_camera: str
    tolerance_us: int
    image_tolerance_us: int
    window_us: int = 0
    chunk_size: int = 1
    joints_fps: int = 250
    padding_mode: Literal["repeat", "edge", "constant"] = "repeat"
    padding_value: float = 0.0
    aggregation: Literal["mean", "median"] = "mean"
    on_gap: Literal["drop", "hold", "reject"] = "drop"
    max_rows: int | None = None

    @property
    def lookahead_us(self) -> int:
        """How far past a row's time an arm must be known."""
        if self.strategy == "chunking":
            return int(tick_us(self.chunk_size - 1, self.joints_fps))
        return self.window_us if self.strategy == "window" else 0


class Shown(msgspec.Struct, frozen=True):
    """What rows show of a camera: frame indices (N,), |dt| (N,) in microseconds, and where it is a gap (N,)."""

    indices: IntArray
    errors_us: IntArray
    in_gap: BoolArray


class Taken(msgspec.Struct, frozen=True):
    """What rows take of an arm.

    Attributes:
        states: (N, J).
        chunks: (N, K, J) for an arm whose joints are chunked actions, else None.
        errors_us: (N,) the largest |dt| of what the row uses.
        in_gap: (N,) where something is beyond tolerance.
    """

    states: Float32Array
    chunks: Float32Array | None
    errors_us: IntArray
    in_gap: BoolArray


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of an episode, in time order.

    Attributes:
        times_us: (N,) int64, the rows' times.
        frame_indices: by camera, (N,) int64 into the camera's frames.
        states: by arm, (N, J) float32.
        chunks: by action arm when chunking, (N, K, J) float32.
        errors_us: by stream, (N,) int64: the largest |dt| of what the row uses of it.
        num_dropped: rows left out for a stream beyond its tolerance.
        num_held: by stream, rows that repeat its last sample for want of one within tolerance.
    """

    times_us: IntArray
    frame_indices: dict[str, IntArray]
    states: dict[str, Float32Array]
    chunks: dict[str, Float32Array]
    errors_us: dict[str, IntArray]
    num_dropped: int
    num_held: dict[str, int]


def row_times(plan: AlignmentPlan, base_times_us: IntArray, *, start_us: int, end_us: int) -> IntArray:
    """Return the times of the rows.

    Args:
        plan: the rules.
        base_times_us: (S,) the base camera's frames, S >= 1.
        start_us, end_us: the time in which all streams overlap, inclusive.

    Returns:
        (N,) int64, increasing.
    """
    if plan.timeline == "uniform":
        first_us = int(base_times_us[0])
        times_us: IntArray = first_us + tick_us(np.arange(_num_ticks(end_us - first_us, plan.fps)), plan.fps)
    else:
        times_us = base_times_us
    return times_us[(times_us >= start_us) & (times_us <= end_us)][: plan.max_rows]


def _num_ticks(span_us: int, fps: int) -> int:
    """Return how many ticks i = 0, 1, … have ``tick_us(i, fps) <= span_us`` (``tick_us`` solved for i)."""
    return max(0, -(-(2 * span_us + 1) * fps // 2_000_000))


def shown_frames(plan: AlignmentPlan, frames_us: IntArray, times_us: IntArray) -> Shown:
    """Return which frame of a camera each row shows.

    Args:
        plan: the rules.
        frames_us: (S,) the camera's frames, S >= 1.
        times_us: (N,) the rows.
    """
    indices, errors_us, in_gap = _nearest(frames_us, times_us, tolerance_us=plan.image_tolerance_us, is_held=plan.on_gap == "hold")
    return Shown(indices, errors_us, in_gap)


class ArmAligner:
    """Takes what rows need of one arm, while its samples come in.

    Args:
        plan: the rules.
        arm: its name.
    """

    def __init__(self, plan: AlignmentPlan, arm: str) -> None:
        self._plan = plan
        self._is_chunked = plan.strategy == "chunking" and arm in plan.action_arms
        self._buffer = JointBuffer()
        self._asked = np.empty(0, np.int64)
        self._is_open = True

    def ask(self, times_us: IntArray) -> None:
        """Add rows: (N,) times, increasing, after all that were asked before, inside the arm's own time."""
        self._asked = np.concatenate([self._asked, times_us])

    def push(self, times_us: IntArray, values: FloatArray) -> None:
        """Add samples: (S,) times, increasing, after all that were pushed before, and (S, J) values."""
        self._buffer.push(times_us, values)

    def close(self) -> None:
        """Say that no samples will follow."""
        self._is_open = False

    def take(self) -> Taken | None:
        """Return the rows that have become final since the last call, in their order, or None."""
        if self._buffer.first_us is None:
            return None
        final_us = self._buffer.last_us - (self._plan.lookahead_us if self._is_open else 0)
        stop = int(np.searchsorted(self._asked, final_us, "right"))
        times_us, self._asked = self._asked[:stop], self._asked[stop:]
        if not stop:
            return None
        taken = self._taken(times_us)
        self._buffer.forget_before(int(times_us[-1]), reach_us=self._plan.window_us)
        return taken

    def _taken(self, times_us: IntArray) -> Taken:
        indices, errors_us, in_gap = self._nearest(times_us)
        states = self._buffer.values[indices]
        if self._plan.strategy == "window":
            states, in_gap = self._aggregated(times_us, states, in_gap)
        if not self._is_chunked:
            return Taken(states.astype(np.float32), None, errors_us, in_gap)
        chunks, errors_us, in_gap = self._chunked(times_us)
        return Taken(states.astype(np.float32), chunks.astype(np.float32), errors_us, in_gap)

    def _nearest(self, times_us: IntArray) -> tuple[IntArray, IntArray, BoolArray]:
        is_held = self._plan.on_gap == "hold"
        return _nearest(self._buffer.times_us, times_us, tolerance_us=self._plan.tolerance_us, is_held=is_held)

    def _aggregated(self, times_us: IntArray, nearest: FloatArray, in_gap: BoolArray) -> tuple[FloatArray, BoolArray]:
        aggregate, counts = window_aggregate(
            self._buffer.times_us, self._buffer.values, times_us, window_us=self._plan.window_us, aggregation=self._plan.aggregation
        )
        is_empty = counts == 0
        return np.where(is_empty[:, None], nearest, aggregate), in_gap & is_empty

    def _chunked(self, times_us: IntArray) -> tuple[FloatArray, IntArray, BoolArray]:
        """Return actions (N, K, J), the largest |dt| (N,) and where a step is a gap (N,)."""
        shape = (len(times_us), self._plan.chunk_size)
        steps_us = times_us[:, None] + tick_us(np.arange(self._plan.chunk_size), self._plan.joints_fps)[None, :]
        indices, errors_us, in_gap = self._nearest(steps_us.ravel())
        past_end = steps_us > self._buffer.last_us
        chunks = self._padded(self._buffer.values[indices].reshape(*shape, -1), past_end)
        largest_us: IntArray = np.where(past_end, 0, errors_us.reshape(shape)).max(axis=1)
        return chunks, largest_us, (in_gap.reshape(shape) & ~past_end).any(axis=1)

    def _padded(self, chunks: FloatArray, past_end: BoolArray) -> FloatArray:
        """Fill the steps past the arm's last sample; step 0 never is one, because rows lie inside the arm's time."""
        if not past_end.any():
            return chunks
        if self._plan.padding_mode == "constant":
            return np.where(past_end[:, :, None], self._plan.padding_value, chunks)
        if self._plan.padding_mode == "edge":
            return np.where(past_end[:, :, None], self._buffer.values[-1], chunks)
        last_valid = (~past_end).sum(axis=1) - 1
        repeated = np.take_along_axis(chunks, last_valid[:, None, None], axis=1)
        return np.where(past_end[:, :, None], repeated, chunks)


def _nearest(stream_us: IntArray, times_us: IntArray, *, tolerance_us: int, is_held: bool) -> tuple[IntArray, IntArray, BoolArray]:
    """Return the nearest index, |dt| and where that is beyond tolerance; there, if held, the latest index before."""
    indices = nearest_indices(stream_us, times_us)
    in_gap = np.abs(stream_us[indices] - times_us) > tolerance_us
    if is_held:
        indices = np.where(in_gap, latest_indices(stream_us, times_us), indices)
    return indices, np.abs(stream_us[indices] - times_us), in_gap


def combined(plan: AlignmentPlan, times_us: IntArray, shown: dict[str, Shown], taken: dict[str, Taken]) -> Rows:
    """Lay the answers of all streams side by side.

    Args:
        plan: the rules.
        times_us: (N,) the rows.
        shown: by camera, N rows each.
        taken: by arm, N rows each.

    Raises:
        BadRaw: a row is in a gap and the plan rejects that.
    """
    streams: dict[str, Shown | Taken] = {**shown, **taken}
    in_gap = np.logical_or.reduce([stream.in_gap for stream in streams.values()])
    if plan.on_gap == "reject" and in_gap.any():
        raise _gap(plan, times_us, streams, int(np.argmax(in_gap)))
    # Where every row is kept, a slice makes views instead of copies of the largest arrays there are.
    kept = ~in_gap if plan.on_gap == "drop" and in_gap.any() else slice(None)
    num_rows = len(times_us[kept])
    return Rows(
        times_us=times_us[kept],
        frame_indices={camera: stream.indices[kept] for camera, stream in shown.items()},
        states={arm: stream.states[kept] for arm, stream in taken.items()},
        chunks={arm: stream.chunks[kept] for arm, stream in taken.items() if stream.chunks is not None},
        errors_us={name: stream.errors_us[kept] for name, stream in streams.items()},
        num_dropped=len(times_us) - num_rows,
        num_held={name: int(stream.in_gap.sum()) if plan.on_gap == "hold" else 0 for name, stream in streams.items()},
    )


def _gap(plan: AlignmentPlan, times_us: IntArray, streams: dict[str, Shown | Taken], row: int) -> BadRaw:
    name = next(name for name, stream in streams.items() if stream.in_gap[row])
    limit_us = plan.image_tolerance_us if name in plan.cameras else plan.tolerance_us
    return BadRaw(
        name,
        f"at {times_us[row]} us the nearest sample is {streams[name].errors_us[row] / 1000:.1f} ms away, the tolerance is "
        f"{limit_us / 1000:g} ms; raise it, or set alignment.on_gap to drop or hold",
    )
