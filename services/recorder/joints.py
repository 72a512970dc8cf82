"""What the arms of one episode did: a time and the joints' values for every sample, kept while it is recorded. Pure.

The letters: S samples, J joints. Samples go into growing arrays of plain numbers; at the end they are looked at, not copied,
so that an episode of any length ends at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.recorder.timing import LoopReport


class ArmRecording(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of one arm.

    Attributes:
        joint_names: J names in the order of the columns.
        times_us: (S,) int64, microseconds since the epoch, strictly increasing.
        values: (S, J) float64, in the joints' units.
    """

    joint_names: tuple[str, ...]
    times_us: NDArray[np.int64]
    values: NDArray[np.float64]


class JointRecording(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of all arms by the name of their file (``left_slave``), and how the loop ran."""

    arms: dict[str, ArmRecording]
    report: LoopReport


class ArmTrack:
    """Samples of one arm while they come.

    Args:
        joint_names: J names.
    """

    def __init__(self, joint_names: Sequence[str]) -> None:
        self.joint_names = tuple(joint_names)
        self.longest_gap_us = 0
        self.num_errors = 0
        self._times_us = array("q")
        self._values = array("d")
        self._last_us = 0

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self._times_us)

    @property
    def rate_hz(self) -> float:
        """Samples per second between the first and the last; 0 with fewer than two."""
        if len(self._times_us) < 2:
            return 0.0
        return (len(self._times_us) - 1) * 1e6 / (self._last_us - self._times_us[0])

    def add(self, time_us: int, values: Sequence[float]) -> None:
        """Keep a sample; one within the microsecond of the last gets the next microsecond.

        Raises:
            ValueError: the number of values is not J.
        """
        if len(values) != len(self.joint_names):
            raise ValueError(f"{len(values)} values for {len(self.joint_names)} joints")
        if self._times_us:
            time_us = max(time_us, self._last_us + 1)
            self.longest_gap_us = max(self.longest_gap_us, time_us - self._last_us)
        self._last_us = time_us
        self._times_us.append(time_us)
        self._values.extend(values)

    def recording(self) -> ArmRecording:
        """Return what was kept, without copying it; nothing can be added any more."""
        times_us = np.asarray(self._times_us)
        values = np.asarray(self._values).reshape(-1, len(self.joint_names))
        return ArmRecording(joint_names=self.joint_names, times_us=times_us, values=values)
