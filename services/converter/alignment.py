"""Alignment: streams with clocks of their own become rows. Pure; arrays in, arrays out.

Letters: N rows, S samples, A arms, J joints per arm, K chunk. Time is int64 microseconds until the last step.

Theory of operation. Every stream (an arm or a camera) is pushed in any portions, each in time order, and closed at its
end. Row k is final once every stream has passed its time plus the lookahead (the chunk or the window), so rows come out
while the episode is still growing, and they are the same rows whatever the portions were: a property test holds this.
Only what a later row can still need is kept, so memory does not grow with the episode.

- Rows. ``base``: one per base-camera frame. ``uniform``: ticks ``first base frame + i/fps`` in integer arithmetic.
  Rows lie where all arms and cameras overlap.
- Cameras: the nearest frame to the row's time, ties to the earlier, within ``image_tolerance_us``.
- Joints ``nearest``: the closest sample, ties to the earlier, within ``tolerance_us``. ``window``: mean or median of
  all samples with |dt| <= ``window_us``; an empty window falls back to nearest. ``chunking``: states nearest, action step
  i nearest to ``t + i/joints_fps``; steps past the arm's last sample are padded.
- A row with a stream beyond its tolerance is dropped, held (each such stream repeats its last sample) or rejected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter.timelines import JointBuffer, latest_indices, nearest_indices, tick_us, window_aggregate
from shared.errors import BadRaw

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class AlignmentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an aligner needs to know, in integers.

    Attributes:
        strategy: how joints are taken.
        timeline: ``base`` or ``uniform``.
        fps: rows per second of the dataset.
        arms: names, in the order of the configuration.
        cameras: names of the cameras that are used.
        base_camera: the one that gives the timeline.
        tolerance_us, image_tolerance_us, window_us: bounds for |dt|, inclusive.
        chunk_size: K, steps of an action; 1 unless chunking.
        joints_fps: steps per second inside a chunk.
        padding_mode, padding_value: what stands past an arm's last sample.
        aggregation: of a window.
        on_gap: what happens to a row with a stream beyond its tolerance.
    """

    strategy: Literal["nearest", "chunking", "window"]
    timeline: Literal["base", "uniform"]
    fps: int
    arms: tuple[str, ...]
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

    @property
    def lookahead_us(self) -> int:
        """How far past a row's time an arm must be known."""
        if self.strategy == "chunking":
            return int(tick_us(self.chunk_size - 1, self.joints_fps))
        return self.window_us if self.strategy == "window" else 0


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """A block of final rows in time order.

    Attributes:
        times_us: (N,) int64, the rows' times.
        frame_indices: by camera, (N,) int64 into the camera's frames.
        states: by arm, (N, J) float32.
        actions: by arm, (N, K, J) float32.
        errors_us: by stream, (N,) int64: the largest |dt| of what the row uses of it.
        num_dropped: rows left out for a stream beyond its tolerance.
        num_held: by stream, rows that repeat its last sample for want of one within tolerance.
    """

    times_us: IntArray
    frame_indices: dict[str, IntArray]
    states: dict[str, NDArray[np.float32]]
    actions: dict[str, NDArray[np.float32]]
    errors_us: dict[str, IntArray]
    num_dropped: int
    num_held: dict[str, int]


class _Taken(msgspec.Struct, frozen=True):
    """What the rows take of one arm: states (N, J), actions (N, K, J), error (N,), and where it is a gap (N,) bool."""

    states: FloatArray
    actions: FloatArray
    errors_us: IntArray
    gap: NDArray[np.bool_]


class Aligner:
    """Makes rows of one episode's streams.

    Args:
        plan: the rules.
    """

    def __init__(self, plan: AlignmentPlan) -> None:
        self._plan = plan
        self._frames: dict[str, list[IntArray]] = {camera: [] for camera in plan.cameras}
        self._joints: dict[str, JointBuffer] = {arm: JointBuffer() for arm in plan.arms}
        self._open = {*plan.arms, *plan.cameras}
        self._next_row = 0

    def push_frames(self, camera: str, times_us: IntArray) -> None:
        """Add frames of a camera: (S,) int64, increasing, after all that were pushed before."""
        self._frames[camera].append(times_us)

    def push_samples(self, arm: str, times_us: IntArray, values: FloatArray) -> None:
        """Add samples of an arm: (S,) int64, increasing, after all that were pushed before, and (S, J)."""
        self._joints[arm].push(times_us, values)

    def close(self, stream: str) -> None:
        """Say that an arm or camera has ended."""
        self._open.discard(stream)

    def take(self) -> Rows | None:
        """Return the rows that have become final since the last call, or None.

        Raises:
            BadRaw: a row has a stream beyond its tolerance and the plan rejects that.
        """
        frames = {camera: _joined(parts) for camera, parts in self._frames.items()}
        if any(self._first(stream, frames) is None for stream in (*frames, *self._joints)):
            return None
        times_us = self._final_times(frames)
        if not len(times_us):
            return None
        rows = self._aligned(times_us, frames)
        for buffer in self._joints.values():
            buffer.forget_before(int(times_us[-1]), reach_us=self._plan.window_us)
        return rows

    def _first(self, stream: str, frames: dict[str, IntArray]) -> int | None:
        if stream in self._joints:
            return self._joints[stream].first_us
        return int(frames[stream][0]) if len(frames[stream]) else None

    def _last(self, stream: str, frames: dict[str, IntArray]) -> int:
        return self._joints[stream].last_us if stream in self._joints else int(frames[stream][-1])

    def _final_times(self, frames: dict[str, IntArray]) -> IntArray:
        """Return the times of the rows that nothing pushed later can change, and count the timeline on."""
        start_us = max(self._first(stream, frames) or 0 for stream in (*frames, *self._joints))
        end_us = min(self._last(stream, frames) - self._needed_us(stream) for stream in (*frames, *self._joints))
        if self._plan.timeline == "base":
            timeline = frames[self._plan.base_camera]
            stop = int(np.searchsorted(timeline, end_us, "right"))
            times_us = timeline[self._next_row : stop]
        else:
            first_us = int(frames[self._plan.base_camera][0])
            stop = _num_ticks(end_us - first_us, self._plan.fps)
            times_us = first_us + tick_us(np.arange(self._next_row, stop), self._plan.fps)
        self._next_row = max(self._next_row, stop)
        return times_us[times_us >= start_us]

    def _needed_us(self, stream: str) -> int:
        """How far a stream must have passed a row: the lookahead of an arm that can still grow, else its very last sample."""
        if stream not in self._open:
            return 0
        return self._plan.lookahead_us if stream in self._joints else 0

    def _aligned(self, times_us: IntArray, frames: dict[str, IntArray]) -> Rows:
        gaps: dict[str, NDArray[np.bool_]] = {}
        errors_us: dict[str, IntArray] = {}
        frame_indices: dict[str, IntArray] = {}
        for camera in self._plan.cameras:
            frame_indices[camera], errors_us[camera], gaps[camera] = self._take_frames(frames[camera], times_us)
        taken = {arm: self._take_joints(self._joints[arm], times_us) for arm in self._plan.arms}
        errors_us |= {arm: of_arm.errors_us for arm, of_arm in taken.items()}
        gaps |= {arm: of_arm.gap for arm, of_arm in taken.items()}
        kept = self._kept(times_us, gaps, errors_us)
        held = self._plan.on_gap == "hold"
        return Rows(
            times_us=times_us[kept],
            frame_indices={camera: indices[kept] for camera, indices in frame_indices.items()},
            states={arm: of_arm.states[kept].astype(np.float32) for arm, of_arm in taken.items()},
            actions={arm: of_arm.actions[kept].astype(np.float32) for arm, of_arm in taken.items()},
            errors_us={stream: error[kept] for stream, error in errors_us.items()},
            num_dropped=int(len(kept) - kept.sum()),
            num_held={stream: int(gap.sum()) if held else 0 for stream, gap in gaps.items()},
        )

    def _kept(self, times_us: IntArray, gaps: dict[str, NDArray[np.bool_]], errors_us: dict[str, IntArray]) -> NDArray[np.bool_]:
        in_gap = np.logical_or.reduce(list(gaps.values()))
        if self._plan.on_gap == "reject" and in_gap.any():
            row = int(np.argmax(in_gap))
            stream = next(name for name, gap in gaps.items() if gap[row])
            limit_us = self._plan.image_tolerance_us if stream in self._plan.cameras else self._plan.tolerance_us
            raise BadRaw(
                stream,
                f"at {times_us[row]} us the nearest sample is {errors_us[stream][row] / 1000:.1f} ms away, the tolerance is "
                f"{limit_us / 1000:g} ms; raise it, or set alignment.on_gap to drop or hold",
            )
        return ~in_gap if self._plan.on_gap == "drop" else np.ones(len(times_us), np.bool_)

    def _take_frames(self, frames_us: IntArray, times_us: IntArray) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        indices = nearest_indices(frames_us, times_us)
        errors_us = np.abs(frames_us[indices] - times_us)
        gap = errors_us > self._plan.image_tolerance_us
        if self._plan.on_gap == "hold":
            indices = np.where(gap, latest_indices(frames_us, times_us), indices)
            errors_us = np.abs(frames_us[indices] - times_us)
        return indices, errors_us, gap

    def _take_joints(self, buffer: JointBuffer, times_us: IntArray) -> _Taken:
        if self._plan.strategy == "chunking":
            return self._take_chunks(buffer, times_us)
        near = self._take_samples(buffer, times_us)
        if self._plan.strategy == "nearest":
            return near
        aggregate, counts = window_aggregate(
            buffer.times_us, buffer.values, times_us, window_us=self._plan.window_us, aggregation=self._plan.aggregation
        )
        filled = counts > 0
        states = np.where(filled[:, None], aggregate, near.states)
        return _Taken(states, states[:, None, :], near.errors_us, near.gap & ~filled)

    def _take_samples(self, buffer: JointBuffer, times_us: IntArray) -> _Taken:
        """Take the nearest sample to each time; where it is too far and gaps are held, the latest one before."""
        indices = nearest_indices(buffer.times_us, times_us)
        errors_us = np.abs(buffer.times_us[indices] - times_us)
        gap = errors_us > self._plan.tolerance_us
        if self._plan.on_gap == "hold":
            indices = np.where(gap, latest_indices(buffer.times_us, times_us), indices)
            errors_us = np.abs(buffer.times_us[indices] - times_us)
        states = buffer.values[indices]
        return _Taken(states, states[:, None, :], errors_us, gap)

    def _take_chunks(self, buffer: JointBuffer, times_us: IntArray) -> _Taken:
        states = self._take_samples(buffer, times_us)
        num_rows, num_steps = len(times_us), self._plan.chunk_size
        steps_us = times_us[:, None] + tick_us(np.arange(num_steps), self._plan.joints_fps)[None, :]
        steps = self._take_samples(buffer, steps_us.ravel())
        past_end = steps_us > buffer.last_us
        actions = self._padded(steps.states.reshape(num_rows, num_steps, -1), past_end, buffer)
        errors_us = np.where(past_end, 0, steps.errors_us.reshape(num_rows, num_steps)).max(axis=1)
        gap = (steps.gap.reshape(num_rows, num_steps) & ~past_end).any(axis=1)
        return _Taken(states.states, actions, errors_us, gap)

    def _padded(self, actions: FloatArray, past_end: NDArray[np.bool_], buffer: JointBuffer) -> FloatArray:
        """Fill the steps past the arm's last sample; step 0 never is one, because rows lie inside the overlap."""
        if self._plan.padding_mode == "constant":
            return np.where(past_end[:, :, None], self._plan.padding_value, actions)
        if self._plan.padding_mode == "edge":
            return np.where(past_end[:, :, None], buffer.values[-1], actions)
        last_valid = np.maximum((~past_end).sum(axis=1) - 1, 0)
        repeated = np.take_along_axis(actions, last_valid[:, None, None], axis=1)
        return np.where(past_end[:, :, None], repeated, actions)


def concatenated(blocks: Sequence[Rows]) -> Rows:
    """Return blocks of rows, in order, as one.

    Args:
        blocks: at least one.
    """
    first = blocks[0]
    return Rows(
        times_us=np.concatenate([block.times_us for block in blocks]),
        frame_indices={name: np.concatenate([block.frame_indices[name] for block in blocks]) for name in first.frame_indices},
        states={name: np.concatenate([block.states[name] for block in blocks]) for name in first.states},
        actions={name: np.concatenate([block.actions[name] for block in blocks]) for name in first.actions},
        errors_us={name: np.concatenate([block.errors_us[name] for block in blocks]) for name in first.errors_us},
        num_dropped=sum(block.num_dropped for block in blocks),
        num_held={name: sum(block.num_held[name] for block in blocks) for name in first.num_held},
    )


def _joined(parts: list[IntArray]) -> IntArray:
    """Return the parts as one array, and keep only that one in the list."""
    if len(parts) != 1:
        parts[:] = [np.concatenate(parts) if parts else np.empty(0, np.int64)]
    return parts[0]


def _num_ticks(span_us: int, fps: int) -> int:
    """Return how many ticks i = 0, 1, … have ``tick_us(i, fps) <= span_us`` (``tick_us`` solved for i)."""
    return max(0, -(-(2 * span_us + 1) * fps // 2_000_000))
