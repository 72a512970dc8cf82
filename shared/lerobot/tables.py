"""The door to pyarrow for dataset tables: an episode's columns to parquet bytes and back.

The bytes depend on the columns and the features alone: no clock, no path, no earlier encoding. One-dimensional
vectors carry LeRobot's ``huggingface`` schema metadata; matrices are plain nested lists without an extension
type, because LeRobot's own converter to v3.0 crashes on its Array2D columns (more than one episode).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from shared.errors import BadDataset
from shared.lerobot.info import Feature

Array = NDArray[Any]

ROW_GROUP_ROWS = 2048
"""LeRobot writes one row group; more of them bound the memory of writing a long episode, and load the same."""


def encoded_table(columns: Mapping[str, Array], features: Mapping[str, Feature]) -> bytes:
    """Return the parquet file of one episode: snappy, columns in the order of ``features``, row groups of bounded size.

    Args:
        columns: (N,) or (N, …) per feature.
        features: the columns of info.json.

    Raises:
        ValueError: a column is missing, or has another shape or dtype than its feature.
    """
    if set(columns) != set(features):
        raise ValueError(f"the columns are {sorted(columns)}, the features {sorted(features)}")
    arrays = [_arrow_array(key, columns[key], feature) for key, feature in features.items()]
    described = {key: _huggingface_feature(feature) for key, feature in features.items()}
    metadata: dict[bytes | str, bytes | str] = {"huggingface": json.dumps({"info": {"features": described}})}
    schema = pa.schema([pa.field(key, array.type) for key, array in zip(features, arrays, strict=True)], metadata=metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink, compression="snappy", row_group_size=ROW_GROUP_ROWS)
    return bytes(sink.getvalue())


def read_columns(path: Path) -> dict[str, Array]:
    """Return the columns of an episode's parquet file in their order, (N,) or (N, …).

    Raises:
        BadDataset: the file is missing, no parquet, has nulls, or lists of different lengths.
    """
    try:
        table = pq.ParquetFile(path).read()
        return {name: _numpy_column(table.column(name).combine_chunks(), f"{path}: column {name}") for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadDataset(f"{path}: is not a readable parquet file ({reason}); restore it or convert the episode again") from error


def read_num_rows(path: Path) -> int:
    """Return the number of rows of a parquet file from its footer.

    Raises:
        BadDataset: the file is missing or no parquet.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise BadDataset(f"{path}: is not a readable parquet file ({' '.join(str(error).split())[:200]}); restore it") from error


def _arrow_array(key: str, values: Array, feature: Feature) -> Any:
    if feature.dtype == "string":
        return pa.array([str(value) for value in values], type=pa.string())
    expected = () if feature.shape == (1,) else feature.shape
    if values.shape[1:] != expected or values.dtype.name != feature.dtype:
        raise ValueError(f"column {key} is {values.shape} {values.dtype}, its feature {feature.shape} {feature.dtype}")
    array: Any = pa.array(np.ascontiguousarray(values).reshape(-1))
    if len(expected) == 1:
        return pa.FixedSizeListArray.from_arrays(array, expected[0])
    for depth in reversed(range(len(expected))):
        num_lists = len(values) * int(np.prod(expected[:depth], dtype=np.int64))
        offsets = np.arange(num_lists + 1, dtype=np.int32) * np.int32(expected[depth])
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def _huggingface_feature(feature: Feature) -> dict[str, Any]:
    """Return how the ``datasets`` library describes the column's type."""
    described: dict[str, Any] = {"dtype": feature.dtype, "_type": "Value"}
    if feature.shape == (1,):
        return described
    for _ in feature.shape:
        length = feature.shape[0] if len(feature.shape) == 1 else -1
        described = {"feature": described, "length": length, "_type": "Sequence"}
    return described


def _numpy_column(array: Any, place: str) -> Array:
    shape: list[int] = [len(array)]
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            raise BadDataset(f"{place}: has null rows, expected a value in every row; convert the episode again")
        num_lists, array = len(array), array.flatten()
        if num_lists == 0 or len(array) % num_lists:
            raise BadDataset(f"{place}: has lists of different lengths, expected the same in every row; convert the episode again")
        shape.append(len(array) // num_lists)
    if array.null_count:
        raise BadDataset(f"{place}: has nulls, expected a value in every row; convert the episode again")
    return np.asarray(array.to_numpy(zero_copy_only=False)).reshape(shape)
