"""The default columns and what can be wrong with rows."""

from __future__ import annotations

import numpy as np
import pytest

from shared.lerobot import rows
from shared.lerobot.info import Feature, default_features

FEATURES = {"action": Feature(dtype="float32", shape=(2,)), **default_features()}


def table(num_frames: int = 5, **changes: np.ndarray) -> dict[str, np.ndarray]:
    numbered = rows.default_columns(num_frames=num_frames, fps=30, episode_index=4, first_index=100, task_index=1)
    return {"action": np.zeros((num_frames, 2), np.float32), **numbered, **changes}


def problems(columns: dict[str, np.ndarray]) -> list[str]:
    return rows.row_problems(columns, features=FEATURES, fps=30, episode_index=4, first_index=100)


def test_default_columns_have_lerobots_types_and_numbers() -> None:
    columns = table()

    assert columns["timestamp"].dtype == np.float32
    assert columns["timestamp"][4] == np.float32(4 / 30)
    assert columns["index"].tolist() == [100, 101, 102, 103, 104]
    assert columns["episode_index"].tolist() == [4] * 5
    assert {columns[key].dtype.name for key in ("frame_index", "episode_index", "index", "task_index")} == {"int64"}
    assert problems(columns) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"action": np.array([[0, 0]] * 3 + [[0, np.nan]] * 2, np.float32)}, "column action is not finite at row 3"),
        ({"action": np.zeros((5, 3), np.float32)}, "rows of shape [3], info.json says [2]"),
        ({"action": np.zeros((5, 2))}, "is float64, info.json says float32"),
        ({"index": np.arange(5)}, "column index is 0 at row 0, expected 100"),
        ({"frame_index": np.array([0, 1, 1, 3, 4])}, "column frame_index is 1 at row 2, expected 2"),
        ({"episode_index": np.zeros(5, np.int64)}, "column episode_index is 0 at row 0, expected 4"),
        ({"timestamp": np.array([0, 1, 2, 3, 5], np.float32) / np.float32(30)}, "timestamp steps from 0.1 to 0.166667 s at row 3"),
        ({"timestamp": np.arange(5, dtype=np.float32) / np.float32(30) + 1}, "timestamp is 1 s at row 0, expected frame_index / fps"),
        ({"extra": np.zeros(5)}, "column extra is not in info.json"),
    ],
)
def test_a_wrong_column_is_one_sentence(changes: dict[str, np.ndarray], sentence: str) -> None:
    (found,) = problems(table(**changes))

    assert sentence in found


def test_a_missing_column_is_named() -> None:
    columns = table()
    del columns["task_index"]

    assert problems(columns) == ["column task_index of info.json is missing"]


@pytest.mark.parametrize(("fps", "limit_s"), [(30, 1024), (50, 1024), (25, 2048), (20, 2048)])
def test_float32_time_runs_out_where_lerobots_check_fails(fps: int, limit_s: int) -> None:
    times = rows.exact_timestamps(limit_s * fps + 60, fps).astype(np.float32)

    assert rows.spacing_error_index(times[: limit_s * fps], fps) is None
    assert rows.spacing_error_index(times, fps) in range(limit_s * fps - 1, limit_s * fps + 60)
