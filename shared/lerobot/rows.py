"""The five default columns of an episode's table, and what can be wrong with a table's rows.

Letters: ``N`` rows. Pure: arrays in, arrays or sentences out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.lerobot import layout
from shared.lerobot.info import Feature

Array = NDArray[Any]
Columns = Mapping[str, Array]


def exact_timestamps(num_frames: int, fps: int) -> NDArray[np.float64]:
    """Return ``i / fps`` in seconds, (N,) float64: what LeRobot takes the statistics of."""
    return np.arange(num_frames, dtype=np.int64) / fps


def default_columns(*, num_frames: int, fps: int, episode_index: int, first_index: int, task_index: Array | int) -> dict[str, Array]:
    """Return the five default columns of one episode in LeRobot's order.

    Args:
        num_frames: rows N.
        fps: rows per second.
        episode_index: number of the episode in its dataset.
        first_index: rows of all earlier episodes together.
        task_index: of the whole episode, or (N,) per row.
    """
    return {
        "timestamp": exact_timestamps(num_frames, fps).astype(np.float32),
        "frame_index": np.arange(num_frames, dtype=np.int64),
        "episode_index": np.full(num_frames, episode_index, dtype=np.int64),
        "index": np.arange(first_index, first_index + num_frames, dtype=np.int64),
        "task_index": np.broadcast_to(np.asarray(task_index, dtype=np.int64), (num_frames,)).copy(),
    }


def spacing_error_index(timestamps: Array, fps: int) -> int | None:
    """Return the first row whose successor is not 1/fps later by LeRobot's own check, or None.

    Args:
        timestamps: (N,) seconds; float32 runs out of precision in long episodes, which is what this finds.
        fps: rows per second.
    """
    wrong = np.abs(np.diff(timestamps) - (1.0 / fps)) > layout.TIMESTAMP_TOLERANCE_S
    return int(np.argmax(wrong)) if wrong.any() else None


def first_not_finite(values: Array) -> int | None:
    """Return the first row with a NaN or an infinite value, or None; (N,) or (N, …)."""
    if not np.issubdtype(values.dtype, np.floating):
        return None
    wrong = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    return int(np.argmax(wrong)) if wrong.any() else None


def row_problems(columns: Columns, *, features: Mapping[str, Feature], fps: int, episode_index: int, first_index: int) -> list[str]:
    """Return what is wrong with the rows of one episode, as sentences.

    Args:
        columns: the table's columns, (N,) or (N, …), as ``tables.read_columns`` gives them.
        features: columns that info.json names.
        fps: rows per second.
        episode_index: number of the episode in its dataset.
        first_index: rows of all earlier episodes together.
    """
    problems = [f"column {key} of info.json is missing" for key in features if key not in columns]
    problems += [f"column {key} is not in info.json" for key in columns if key not in features]
    for key, feature in features.items():
        if key in columns:
            problems += _column_problems(key, columns[key], feature)
    return problems + _counter_problems(columns, fps=fps, episode_index=episode_index, first_index=first_index)


def _column_problems(key: str, values: Array, feature: Feature) -> list[str]:
    problems = []
    expected = () if feature.shape == (1,) else feature.shape
    if values.shape[1:] != expected:
        problems.append(f"column {key} has rows of shape {list(values.shape[1:] or (1,))}, info.json says {list(feature.shape)}")
    if feature.dtype not in {"string", values.dtype.name}:
        problems.append(f"column {key} is {values.dtype.name}, info.json says {feature.dtype}")
    if (row := first_not_finite(values)) is not None:
        problems.append(f"column {key} is not finite at row {row}: no policy can be trained on it")
    return problems


def _counter_problems(columns: Columns, *, fps: int, episode_index: int, first_index: int) -> list[str]:
    num_frames = len(next(iter(columns.values()), ()))
    expected = default_columns(num_frames=num_frames, fps=fps, episode_index=episode_index, first_index=first_index, task_index=0)
    problems = []
    for key in ("frame_index", "episode_index", "index"):
        wrong = columns[key] != expected[key] if key in columns and columns[key].shape == expected[key].shape else np.zeros(1, dtype=bool)
        if wrong.any():
            row = int(np.argmax(wrong))
            problems.append(f"column {key} is {columns[key][row]} at row {row}, expected {expected[key][row]}")
    return problems + (_timestamp_problems(columns["timestamp"], fps) if "timestamp" in columns else [])


def _timestamp_problems(timestamps: Array, fps: int) -> list[str]:
    if timestamps.ndim != 1 or not np.issubdtype(timestamps.dtype, np.number):
        return []
    if (row := spacing_error_index(timestamps, fps)) is not None:
        here, there = timestamps[row], timestamps[row + 1]
        return [f"timestamp steps from {here:.6g} to {there:.6g} s at row {row}, expected steps of 1/{fps} s within 1e-4 s"]
    wrong = np.abs(timestamps - exact_timestamps(len(timestamps), fps)) > layout.TIMESTAMP_TOLERANCE_S
    if wrong.any():
        row = int(np.argmax(wrong))
        return [f"timestamp is {timestamps[row]:.6g} s at row {row}, expected frame_index / fps = {row / fps:.6f} s"]
    return []
