"""Writing the joints of a raw episode: the one door to pyarrow on the robot host.

``joints/{arm}.parquet`` as the converter reads it (``timestamps`` int64 microseconds, ``joint_0`` to ``joint_{J-1}`` float64),
and ``joints/metadata.json`` last, which marks the episode as complete. Nothing is synced here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from services.recorder.saving.episode import ArmSamples
from shared.episode import METADATA_FILE
from shared.errors import BadRaw


def write_joints(folder: Path, arms: tuple[ArmSamples, ...], metadata: dict[str, Any]) -> int:
    """Write the joints of an episode, over what an earlier try has left; return their bytes.

    Args:
        folder: ``joints/`` of the raw episode; it is made.
        arms: their samples.
        metadata: content of ``metadata.json``.

    Raises:
        BadRaw: samples that no converter would take; nothing has been written.
        OSError: the disk does not take it.
    """
    for arm in arms:
        _check(arm)
    folder.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    for arm in arms:
        num_bytes += (folder / f"{arm.arm}.parquet").write_bytes(_parquet(arm))
    return num_bytes + (folder / METADATA_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(metadata), indent=2))


def warm_up() -> None:
    """Write one sample to nowhere: the first use of the library costs what a hundred more do."""
    _parquet(ArmSamples(arm="none", times_us=np.zeros(1, np.int64), values=np.zeros((1, 1))))


def _parquet(arm: ArmSamples) -> memoryview:
    columns = {f"joint_{index}": arm.values[:, index] for index in range(arm.values.shape[1])}
    sink = pa.BufferOutputStream()
    # Measurements hardly repeat: a dictionary costs eight times the rest and saves nothing.
    pq.write_table(pa.table({"timestamps": arm.times_us, **columns}), sink, use_dictionary=False)
    return memoryview(sink.getvalue())


def _check(arm: ArmSamples) -> None:
    name = f"joints/{arm.arm}.parquet"
    if not len(arm.times_us):
        raise BadRaw(name, "has no samples, expected at least one: did the arm's bus answer during the episode?")
    steps = np.flatnonzero(np.diff(arm.times_us) <= 0)
    if len(steps):
        row = int(steps[0]) + 1
        raise BadRaw(name, f"has the timestamp {arm.times_us[row]} after {arm.times_us[row - 1]} in row {row}, expected increasing ones")
    bad = np.argwhere(~np.isfinite(arm.values))
    if len(bad):
        row, joint = bad[0]
        raise BadRaw(name, f"joint_{joint} is {arm.values[row, joint]} in row {row}, expected a finite number")
