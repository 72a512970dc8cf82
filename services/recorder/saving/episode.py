"""What the recorder hands to the saver, and what lies in the outbox. Pure.

Letters: S samples, J joints.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.episode import FileName
from shared.events import EpisodeReady


class ArmSamples(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did in an episode: ``times_us`` (S,) int64, strictly increasing, and ``values`` (S, J) float64, finite."""

    arm: str
    times_us: NDArray[np.int64]
    values: NDArray[np.float64]


class FinishedEpisode(msgspec.Struct, frozen=True, kw_only=True):
    """An episode that ended and is to be saved.

    Attributes:
        event: complete, with the end of the episode as its ``timestamp``; published as it is.
        folder: ``recording/{episode_id}``, with ``images/{camera}/{timestamp_us}.jpg`` already written.
        arms: their samples.
        metadata: content of ``joints/metadata.json``; what the event says and the ``nonce`` are added, for the scanner.
        num_frames: of the camera that gives the timeline.
    """

    event: EpisodeReady
    folder: Path
    arms: tuple[ArmSamples, ...]
    metadata: dict[str, Any]
    num_frames: int


class ArmShape(msgspec.Struct, frozen=True, kw_only=True):
    """Of one arm's samples that follow as plain bytes: whose, and how many (S, J)."""

    arm: FileName
    num_samples: int
    num_joints: int

    @property
    def num_bytes(self) -> int:
        """Length of times and values."""
        return 8 * self.num_samples * (1 + self.num_joints)


class SaveRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A finished episode on its way into the saver: everything but the samples, which follow as plain bytes.

    Attributes:
        nonce: made once for each recording, the same however often it is saved or announced.
    """

    event: EpisodeReady
    folder: str
    arms: tuple[ArmShape, ...]
    metadata: dict[str, Any]
    num_frames: int
    nonce: str

    @classmethod
    def of(cls, finished: FinishedEpisode) -> Self:
        """Return a request for an episode, with a new nonce.

        Raises:
            ValueError: samples of a wrong shape or type.
        """
        shapes = tuple(_shape(arm) for arm in finished.arms)
        fields = {name: getattr(finished, name) for name in ("event", "metadata", "num_frames")}
        return cls(**fields, folder=str(finished.folder), arms=shapes, nonce=uuid.uuid4().hex)

    def finished(self, samples: list[bytes]) -> FinishedEpisode:
        """Return the episode again, with the plain bytes of each arm as ``sample_bytes`` gives them."""
        arms = tuple(_samples(shape, body) for shape, body in zip(self.arms, samples, strict=True))
        fields = {name: getattr(self, name) for name in ("event", "metadata", "num_frames")}
        return FinishedEpisode(**fields, folder=Path(self.folder), arms=arms)


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """``event.json`` of an episode in the outbox.

    Attributes:
        event: as it will be published.
        nonce: part of the message id and of ``joints/metadata.json``: tells two recordings of one name apart.
        number: its place in the order of recording.
        num_frames: of the camera that gives the timeline.
        saved_at: seconds since the epoch at which it was saved.
        dataset_uri: where its dataset lies; None: it is for none, or an older recorder saved it.
    """

    event: EpisodeReady
    nonce: str
    number: int
    num_frames: int
    saved_at: float
    dataset_uri: str | None = None

    @property
    def message_id(self) -> str:
        """The id under which the stream takes the event once."""
        event = self.event
        return f"ready:{event.source}:{event.episode_id}:{event.strategy or 'configured'}:{self.nonce}"


def sample_bytes(arm: ArmSamples) -> Iterator[memoryview]:
    """Yield an arm's samples as plain bytes, without a copy: the times, then the values row by row."""
    for array in (arm.times_us, arm.values):
        if array.size:
            yield np.ascontiguousarray(array).data.cast("B")


def _shape(arm: ArmSamples) -> ArmShape:
    times_us, values = arm.times_us, arm.values
    if times_us.ndim != 1 or values.ndim != 2 or len(times_us) != len(values):
        raise ValueError(f"{arm.arm}: expected times (S,) and values (S, J), not {times_us.shape} and {values.shape}")
    if times_us.dtype != np.int64 or values.dtype != np.float64:
        raise ValueError(f"{arm.arm}: expected times in int64 and values in float64, not {times_us.dtype} and {values.dtype}")
    return ArmShape(arm=arm.arm, num_samples=len(times_us), num_joints=values.shape[1])


def _samples(shape: ArmShape, body: bytes) -> ArmSamples:
    split = 8 * shape.num_samples
    values = np.frombuffer(body, np.float64, offset=split).reshape(shape.num_samples, shape.num_joints)
    return ArmSamples(arm=shape.arm, times_us=np.frombuffer(body, np.int64, count=shape.num_samples), values=values)
