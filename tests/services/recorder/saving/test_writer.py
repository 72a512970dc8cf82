"""Joints are written as the converter reads them, and unsound samples are refused before anything is."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from services.recorder.saving.episode import ArmSamples
from services.recorder.saving.writer import warm_up, write_joints
from shared.errors import BadRaw


def samples(times_us: list[int], values: NDArray[np.float64] | None = None) -> ArmSamples:
    values = np.arange(2.0 * len(times_us)).reshape(-1, 2) if values is None else values
    return ArmSamples(arm="slave", times_us=np.array(times_us, np.int64), values=values)


def test_columns_types_and_values_are_kept_and_the_bytes_counted(tmp_path: Path) -> None:
    warm_up()
    num_bytes = write_joints(tmp_path / "joints", (samples([5, 7, 8]),), {"task": "Stack."})

    table = pq.read_table(tmp_path / "joints" / "slave.parquet")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("timestamps", "int64"),
        ("joint_0", "double"),
        ("joint_1", "double"),
    ]
    assert table.to_pydict() == {"timestamps": [5, 7, 8], "joint_0": [0, 2, 4], "joint_1": [1, 3, 5]}
    assert msgspec.json.decode((tmp_path / "joints" / "metadata.json").read_bytes()) == {"task": "Stack."}
    assert num_bytes == sum(path.stat().st_size for path in (tmp_path / "joints").iterdir())


@pytest.mark.parametrize(
    ("arm", "problem"),
    [
        (samples([]), r"joints/slave\.parquet: has no samples"),
        (samples([5, 5]), "has the timestamp 5 after 5 in row 1"),
        (samples([5, 7, 6]), "has the timestamp 6 after 7 in row 2"),
        (samples([5, 6], np.array([[0, 1], [0, np.inf]])), "joint_1 is inf in row 1"),
    ],
)
def test_unsound_samples_are_refused_and_nothing_is_written(tmp_path: Path, arm: ArmSamples, problem: str) -> None:
    with pytest.raises(BadRaw, match=problem):
        write_joints(tmp_path / "joints", (samples([1]), arm), {})

    assert not (tmp_path / "joints").exists()
