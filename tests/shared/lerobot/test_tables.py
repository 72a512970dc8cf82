"""Columns to parquet and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.errors import BadDataset
from shared.lerobot.info import Feature
from shared.lerobot.tables import ROW_GROUP_ROWS, encoded_table, read_columns, read_num_rows

FEATURES = {
    "action": Feature(dtype="float32", shape=(4, 3)),
    "observation.state": Feature(dtype="float32", shape=(3,)),
    "done": Feature(dtype="bool", shape=(1,)),
    "note": Feature(dtype="string", shape=(1,)),
    "index": Feature(dtype="int64", shape=(1,)),
}


def columns(num_rows: int = 6) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "index": np.arange(num_rows, dtype=np.int64),
        "action": generator.standard_normal((num_rows, 4, 3)).astype(np.float32),
        "observation.state": generator.standard_normal((num_rows, 3)).astype(np.float32),
        "done": generator.integers(0, 2, num_rows).astype(bool),
        "note": np.array(["a"] * num_rows, dtype=object),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "episode.parquet"
    path.write_bytes(encoded_table(columns(), FEATURES))
    return path


def test_values_come_back_as_they_were(path: Path) -> None:
    found = read_columns(path)

    assert list(found) == list(FEATURES)
    for key, values in columns().items():
        np.testing.assert_array_equal(found[key], values)
        assert found[key].dtype == values.dtype
    assert read_num_rows(path) == 6


def test_the_schema_is_lerobots(path: Path) -> None:
    schema = pq.read_schema(path)

    assert schema.field("observation.state").type == pa.list_(pa.float32(), 3)
    assert schema.field("action").type == pa.list_(pa.list_(pa.float32()))
    assert schema.field("action").metadata is None or b"ARROW:extension:name" not in schema.field("action").metadata
    described = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert described["observation.state"] == {"feature": {"dtype": "float32", "_type": "Value"}, "length": 3, "_type": "Sequence"}
    assert described["index"] == {"dtype": "int64", "_type": "Value"}


def test_row_groups_are_bounded_and_compressed_with_snappy(tmp_path: Path) -> None:
    features = {"index": FEATURES["index"]}
    (tmp_path / "long.parquet").write_bytes(encoded_table({"index": np.arange(20_000, dtype=np.int64)}, features))

    metadata = pq.read_metadata(tmp_path / "long.parquet")

    assert metadata.num_row_groups == -(-20_000 // ROW_GROUP_ROWS)
    assert metadata.row_group(0).column(0).compression == "SNAPPY"


def test_equal_columns_make_equal_bytes_whatever_the_way(path: Path) -> None:
    assert encoded_table(read_columns(path), FEATURES) == path.read_bytes()
    assert encoded_table({key: np.asfortranarray(values) for key, values in columns().items()}, FEATURES) == path.read_bytes()


def test_columns_that_do_not_fit_their_features_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="the columns are"):
        encoded_table({}, FEATURES)
    with pytest.raises(ValueError, match="column index is"):
        encoded_table({**columns(), "index": np.zeros((6, 2), np.int64)}, FEATURES)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [([[1.0], [1.0, 2.0]], "lists of different lengths"), ([[1.0], None], "null rows"), ([1.0, None], "has nulls")],
)
def test_ragged_lists_and_nulls_are_refused(tmp_path: Path, values: list[object], sentence: str) -> None:
    pq.write_table(pa.table({"action": values}), tmp_path / "bad.parquet")

    with pytest.raises(BadDataset, match=f"column action: has.*{sentence.removeprefix('has ')}"):
        read_columns(tmp_path / "bad.parquet")


@pytest.mark.parametrize("num_bytes", [0, 10, 500])
def test_a_truncated_file_is_named(path: Path, num_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:num_bytes])

    with pytest.raises(BadDataset, match=r"episode\.parquet: is not a readable parquet file"):
        read_columns(path)
    with pytest.raises(BadDataset, match=r"episode\.parquet: is not a readable parquet file"):
        read_num_rows(path)
