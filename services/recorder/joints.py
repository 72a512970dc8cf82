"""What the arms of one episode did: a time and the joints' values for every sample, kept while it is recorded. Pure.

The letters: S samples, J joints. Room for the longest usual episode is reserved at its start, which costs nothing until it is
used: the system gives a page of memory when it is written to. So no sample has to wait until thousands before it are copied to
a larger place (measured with arrays that grow: up to 4 ms), and an episode of any length ends at once.
"""

from __future__ import annotations

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


NUM_RESERVED = 1 << 19
"""Samples: 43 minutes at 200 Hz."""


class ArmTrack:
    """Samples of one arm while they come; ``first_us`` and ``last_us`` say when, once there are any.

    Args:
        joint_names: J names.
        num_reserved: samples there is room for; more make it double, which copies them.
    """

    def __init__(self, joint_names: Sequence[str], *, num_reserved: int = NUM_RESERVED) -> None:
        self.joint_names = tuple(joint_names)
        self.longest_gap_us = 0
        self.num_samples = 0
        self._times_us = np.empty(num_reserved, dtype=np.int64)
        self._values = np.empty((num_reserved, len(self.joint_names)), dtype=np.float64)
        self.first_us = self.last_us = 0

    def rate_hz(self, *, span_us: int) -> float:
        """Return samples per second of an episode that lasted so long, above 0; 0 with fewer than two samples."""
        return (self.num_samples - 1) * 1e6 / span_us if self.num_samples > 1 else 0.0

    def add(self, time_us: int, values: Sequence[float]) -> None:
        """Keep a sample; one within the microsecond of the last gets the next microsecond.

        Raises:
            ValueError: the number of values is not J.
        """
        if len(values) != len(self.joint_names):
            raise ValueError(f"{len(values)} values for {len(self.joint_names)} joints")
        index = self.num_samples
        if index:
            time_us = max(time_us, self.last_us + 1)
            self.longest_gap_us = max(self.longest_gap_us, time_us - self.last_us)
        else:
            self.first_us = time_us
        if index == len(self._times_us):
            self._reserve_more()
        self._times_us[index] = self.last_us = time_us
        self._values[index] = values
        self.num_samples = index + 1

    def recording(self) -> ArmRecording:
        """Return what was kept until now, without copying it; later samples are not in it."""
        num_samples = self.num_samples
        return ArmRecording(joint_names=self.joint_names, times_us=self._times_us[:num_samples], values=self._values[:num_samples])

    def _reserve_more(self) -> None:
        for name in ("_times_us", "_values"):
            full = getattr(self, name)
            larger = np.empty((2 * len(full), *full.shape[1:]), dtype=full.dtype)
            larger[: len(full)] = full
            setattr(self, name, larger)
