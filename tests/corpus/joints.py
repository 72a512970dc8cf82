"""Defective joints: the parquet file of one arm."""

from __future__ import annotations

import decimal
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.corpus.cases import Corpus
from tests.services.converter.episodes import ARMS, START_US

JOINTS = Corpus("Joints")
BAD = "joints/left_master.parquet"
ROW = 10
_LONG_NAMES = [rf"{index}\n" + "x" * 500 for index in range(12)]
_HOSTILE = ", ".join(f"{name[:120]}… ({len(name) - 1} characters)" for name in _LONG_NAMES)


def edit(folder: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write the arm's table anew."""
    pq.write_table(change(pq.read_table(folder / BAD)), folder / BAD)


def with_column(folder: Path, name: str, values: Any) -> None:
    """Replace a column."""
    edit(folder, lambda table: table.set_column(table.schema.get_field_index(name), name, values))


def with_value(folder: Path, name: str, value: Any) -> None:
    """Replace one value, None for a null."""
    column = pq.read_table(folder / BAD)[name]
    values = column.to_pylist()
    values[ROW] = value
    with_column(folder, name, pa.array(values, column.type))


def with_times(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace the timestamps."""
    times = pq.read_table(folder / BAD)["timestamps"].to_numpy().copy()
    with_column(folder, "timestamps", pa.array(change(times)))


def moved(row: int, time_us: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a change of one timestamp."""

    def change(times: np.ndarray) -> np.ndarray:
        times[row] = time_us
        return times

    return change


@JOINTS.refused(
    "joints/left_master.parquet: is missing (found left_slave.parquet, right_master.parquet, "
    "right_slave.parquet), expected the samples of arm left_master; robot.arms names the files"
)
def joints_missing(folder: Path) -> None:
    """The file of one arm is missing."""
    (folder / BAD).unlink()


@JOINTS.refused(
    "joints/left_slave.parquet: is missing (found no parquet file), expected the samples of arm left_slave; robot.arms names the files"
)
def joints_folder_missing(folder: Path) -> None:
    """No joints at all."""
    (folder / "joints").rename(folder / "joint")


@JOINTS.refused("joints/left_master.parquet: is no whole parquet file (0 bytes): Parquet file size is 0 bytes; copy it again")
def joints_empty(folder: Path) -> None:
    """An empty file."""
    (folder / BAD).write_bytes(b"")


@JOINTS.refused(
    "joints/left_master.parquet: is no whole parquet file (3000 bytes): Parquet magic bytes not found in "
    "footer. Either the file is corrupted or this is not a parquet file.; copy it again"
)
def joints_truncated(folder: Path) -> None:
    """A file cut off in the middle."""
    os.truncate(folder / BAD, 3000)


@JOINTS.refused(
    "joints/left_master.parquet: is no whole parquet file (460 bytes): Parquet magic bytes not found in "
    "footer. Either the file is corrupted or this is not a parquet file.; copy it again"
)
def joints_not_parquet(folder: Path) -> None:
    """A CSV file named .parquet."""
    (folder / BAD).write_text("timestamps,joint_0\n1,2\n" * 20)


@JOINTS.refused(
    "joints/left_master.parquet: is no whole parquet file (6375 bytes): Couldn't deserialize thrift: "
    "TProtocolException: Invalid data Deserializing page header failed.; copy it again"
)
def joints_pages_damaged(folder: Path) -> None:
    """A file whose pages are overwritten, its footer whole."""
    data = bytearray((folder / BAD).read_bytes())
    data[4:2000] = bytes(1996)
    (folder / BAD).write_bytes(data)


@JOINTS.refused("joints/left_master.parquet: column joint_1 is string, expected float64")
def joints_strings(folder: Path) -> None:
    """A joint as text."""
    edit(folder, lambda table: table.set_column(2, "joint_1", pa.array(["0.5"] * len(table))))


@JOINTS.refused("joints/left_master.parquet: column joint_1 is int64, expected float64")
def joints_integers(folder: Path) -> None:
    """A joint as integers."""
    edit(folder, lambda table: table.set_column(2, "joint_1", pa.array([1] * len(table))))


@JOINTS.refused("joints/left_master.parquet: column joint_1 is decimal128(1, 1), expected float64")
def joints_decimals(folder: Path) -> None:
    """A joint as decimals."""
    edit(folder, lambda table: table.set_column(2, "joint_1", pa.array([decimal.Decimal("0.5")] * len(table))))


@JOINTS.refused("joints/left_master.parquet: column joint_1 is list<element: double>, expected float64")
def joints_lists(folder: Path) -> None:
    """A joint as lists of numbers."""
    edit(folder, lambda table: table.set_column(2, "joint_1", pa.array([[0.5]] * len(table))))


@JOINTS.refused("joints/left_master.parquet: column timestamps is timestamp[us], expected int64 microseconds")
def times_typed(folder: Path) -> None:
    """Timestamps of the type timestamp[us]."""
    edit(folder, lambda table: table.set_column(0, "timestamps", table["timestamps"].cast(pa.timestamp("us"))))


@JOINTS.refused("joints/left_master.parquet: column timestamps is double, expected int64 microseconds")
def times_floats(folder: Path) -> None:
    """Timestamps as seconds in floating point."""
    edit(folder, lambda table: table.set_column(0, "timestamps", pa.array(table["timestamps"].to_numpy() / 1e6)))


@JOINTS.refused("joints/left_master.parquet: has no column timestamps (found joint_0, joint_1, joint_2)")
def times_missing(folder: Path) -> None:
    """No column timestamps."""
    edit(folder, lambda table: table.drop_columns(["timestamps"]))


@JOINTS.refused("joints/left_master.parquet: has no column joint_1 (found timestamps, joint_0, joint_2)")
def joints_column_missing(folder: Path) -> None:
    """A joint is missing."""
    edit(folder, lambda table: table.drop_columns(["joint_1"]))


@JOINTS.refused("joints/left_master.parquet: has a column joint_3, but robot.joints_per_arm is 3: correct the configuration")
def joints_column_extra(folder: Path) -> None:
    """A joint more than configured."""
    edit(folder, lambda table: table.append_column("joint_3", table["joint_0"]))


@JOINTS.refused("joints/left_master.parquet: has the column joint_0 twice, expected every name once")
def joints_column_twice(folder: Path) -> None:
    """A joint twice."""
    edit(folder, lambda table: table.append_column("joint_0", table["joint_0"]))


@JOINTS.refused(f"{BAD}: has no column timestamps, joint_0, joint_1, joint_2 (found {_HOSTILE} and 988 more)")
def joints_hostile_columns(folder: Path) -> None:
    """A thousand columns with names that would not end."""
    columns = {f"{index}\n{'x' * 500}": [1.0] for index in range(1000)}
    pq.write_table(pa.table(columns), folder / BAD)


@JOINTS.refused("joints/left_master.parquet: column joint_1 has no value in row 10")
def joints_null(folder: Path) -> None:
    """A joint without a value."""
    with_value(folder, "joint_1", None)


@JOINTS.refused("joints/left_master.parquet: column timestamps has no value in row 10")
def times_null(folder: Path) -> None:
    """A sample without a timestamp."""
    with_value(folder, "timestamps", None)


@JOINTS.refused("joints/left_master.parquet: column joint_1 is nan in row 10, expected a finite number")
def joints_nan(folder: Path) -> None:
    """A joint that is NaN."""
    with_value(folder, "joint_1", float("nan"))


@JOINTS.refused("joints/left_master.parquet: column joint_1 is -inf in row 10, expected a finite number")
def joints_infinite(folder: Path) -> None:
    """A joint that is infinite."""
    with_value(folder, "joint_1", float("-inf"))


@JOINTS.refused("joints/left_master.parquet: column joint_1 is 1e+39 in row 10, expected a finite number")
def joints_beyond_float32(folder: Path) -> None:
    """A joint beyond what float32 carries."""
    with_value(folder, "joint_1", 1e39)


@JOINTS.refused(
    "joints/left_master.parquet: has the timestamp 1700000000000000 after 1700000000036001 in row 10, "
    "expected strictly increasing timestamps"
)
def times_unsorted(folder: Path) -> None:
    """Timestamps out of order."""
    with_times(folder, moved(ROW, START_US))


@JOINTS.refused("joints/left_master.parquet: has the timestamp 1700000000036001 twice in row 10, expected strictly increasing timestamps")
def times_duplicate(folder: Path) -> None:
    """A timestamp twice."""
    with_times(folder, moved(ROW, START_US + 1 + (ROW - 1) * 4000))


@JOINTS.refused("joints/left_master.parquet: has the timestamp -5, expected microseconds between 1970 and 2100")
def times_negative(folder: Path) -> None:
    """A negative timestamp."""
    with_times(folder, moved(0, -5))


@JOINTS.refused("joints/left_master.parquet: has the timestamp 1700000000596001000, expected microseconds between 1970 and 2100")
def times_nanoseconds(folder: Path) -> None:
    """Timestamps in nanoseconds."""
    with_times(folder, lambda times: times * 1000)


@JOINTS.refused("joints/left_master.parquet: has the timestamp 9223372036854775807, expected microseconds between 1970 and 2100")
def times_far_future(folder: Path) -> None:
    """The last timestamp at the end of 64 bits."""
    with_times(folder, moved(-1, 2**63 - 1))


@JOINTS.refused(
    "cam_base: begins at 1700000000010000 us, after left_master has ended at 1700000000596 us: the "
    "streams have no time in common; are the timestamps of left_master microseconds?"
)
def times_milliseconds(folder: Path) -> None:
    """Timestamps of one arm in milliseconds."""
    with_times(folder, lambda times: times // 1000)


@JOINTS.refused("joints/left_master.parquet: has no samples, expected at least one row")
def joints_no_rows(folder: Path) -> None:
    """A file without rows."""
    edit(folder, lambda table: table.slice(0, 0))


@JOINTS.refused("images/cam_base: has no frame in the time that all streams have in common, so there is no row")
def joints_one_sample(folder: Path) -> None:
    """An arm with one sample, in the middle of the episode."""
    edit(folder, lambda table: table.slice(50, 1))


@JOINTS.refused(
    "joints: has one sample per arm, so its rate cannot be measured; set alignment.joints_fps",
    overrides={"alignment.strategy": "chunking", "alignment.joints_fps": "auto"},
)
def joints_one_sample_each(folder: Path) -> None:
    """One sample per arm where their rate is to be measured."""
    for arm in ARMS:
        path = folder / "joints" / f"{arm}.parquet"
        pq.write_table(pq.read_table(path).slice(50, 1), path)


@JOINTS.refused(
    "left_master: begins at 1700003600000001 us, after cam_side has ended at 1700000000569667 us: the streams have no time in common"
)
def joints_never_overlap(folder: Path) -> None:
    """An arm recorded an hour later."""
    with_times(folder, lambda times: times + 3_600_000_000)


@JOINTS.refused("joints/left_master.parquet: has 12000000 samples, the limit is 10000000: expected the samples of one episode")
def joints_too_many(folder: Path) -> None:
    """A small file that claims twelve million samples."""
    zeros = pa.array(np.zeros(12_000_000))
    columns = {"timestamps": pa.array(np.arange(12_000_000)), "joint_0": zeros, "joint_1": zeros, "joint_2": zeros}
    pq.write_table(
        pa.table(columns),
        folder / BAD,
        column_encoding={"timestamps": "DELTA_BINARY_PACKED"},
        use_dictionary=["joint_0", "joint_1", "joint_2"],  # type: ignore[arg-type]  # the stubs know only booleans
    )


@JOINTS.works()
def joints_float32(folder: Path) -> None:
    """Joints as float32."""
    edit(folder, lambda table: table.set_column(1, "joint_0", table["joint_0"].cast(pa.float32())))


@JOINTS.works()
def joints_notes(folder: Path) -> None:
    """A column of notes beside the joints."""
    edit(folder, lambda table: table.append_column("note", pa.array(["x"] * len(table))))
