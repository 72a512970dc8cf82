"""The events on the wire: msgspec structs, JSON, decoded at the border.

An older reader ignores what a newer writer added; a missing optional field takes its default; a wrong
type is refused. A failed event is a ready event plus what went wrong: its body published again, unchanged,
to ``episode.ready`` retries the episode.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from shared.errors import BadEvent

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
"""What an episode id, a source and a spool may look like: they become paths, keys and subjects."""

MAX_EVENT_BYTES = 512 * 1024
"""Larger bodies are refused before they are decoded; the largest honest event is a few KiB."""

MAX_NESTING = 16
"""Overrides nested more deeply are refused; a configuration has three levels."""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
DatasetName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?\Z")]
Strategy = Literal["nearest", "chunking", "window"]
Stage = Literal["ready", "converted", "uploaded", "failed"]
Reason = Literal["rejected", "exhausted", "crashed"]


class EpisodeReady(msgspec.Struct, frozen=True, kw_only=True):
    """A raw episode is complete and waits for conversion (the task JSON of the old queue).

    Attributes:
        episode_id: name of the raw episode, unique within its source.
        source: who recorded it; chooses the consumer, the place of the raw files and the counters.
        strategy: alignment strategy; None means the configured one.
        config_overrides: values over the strategy configuration, nested or with dotted keys.
        timestamp: seconds since the epoch at which the event was made.
        raw: URI of the raw episode's folder; None means the source's place.
        task: the instruction in words; None means what the raw episode says.
        dataset: growing dataset that takes the episode; None means one dataset per episode.
    """

    episode_id: Name
    source: Name
    strategy: Strategy | None = None
    config_overrides: dict[str, Any] = msgspec.field(default_factory=dict)
    timestamp: float = 0.0
    raw: str | None = None
    task: str | None = None
    dataset: DatasetName | None = None


class EpisodeConverted(EpisodeReady, frozen=True, kw_only=True):
    """A one-episode LeRobot v2.1 dataset lies in a spool and waits for its upload.

    Attributes:
        spool: name of the spool (a folder that converters and an uploader share).
        path: the dataset's folder below the spool's root, with forward slashes.
        frames: rows of the dataset.
        duration_s: ``frames / fps``.
        num_bytes: size of all its files.
        digest: ``sha256:…`` over raw files, configuration and software: equal digests mean equal bytes.
    """

    spool: Name
    path: str
    frames: int
    duration_s: float
    num_bytes: int
    digest: str


class EpisodeUploaded(EpisodeConverted, frozen=True, kw_only=True):
    """The dataset is complete at its target, or the episode is in its growing dataset.

    Attributes:
        uri: where the dataset is.
        episode_index: number of the episode in the growing dataset; None: it is a dataset of its own.
    """

    uri: str
    episode_index: int | None = None


class EpisodeFailed(EpisodeReady, frozen=True, kw_only=True):
    """An episode that needs a person, with its cause.

    Attributes:
        stage: which service gave up (``converter``, ``uploader``, ``scanner``).
        reason: ``rejected`` (retrying cannot help), ``exhausted`` (attempts used up), ``crashed`` (killed its worker).
        error_type: class name of the error.
        error: the sentence a person can act on.
        attempts: deliveries used.
        host: where it happened.
        failed_at: seconds since the epoch.
        converted: for a failed upload, what had been converted.
    """

    stage: str
    reason: Reason
    error_type: str
    error: str
    attempts: int
    host: str
    failed_at: float
    converted: EpisodeConverted | None = None


Event = EpisodeReady | EpisodeConverted | EpisodeUploaded | EpisodeFailed

E = TypeVar("E", bound=EpisodeReady)

_encoder = msgspec.json.Encoder()


def encode(event: EpisodeReady) -> bytes:
    """Return the event's JSON as it goes over the wire."""
    return _encoder.encode(event)


def decode(body: bytes, event_type: type[E]) -> E:
    """Return the event in ``body``.

    Args:
        body: JSON of one event, at most ``MAX_EVENT_BYTES`` bytes.
        event_type: the struct to decode into; fields it does not have are ignored.

    Raises:
        BadEvent: the body is too large, is no JSON, misses a field, has a wrong type, or overrides nested without end.
    """
    if len(body) > MAX_EVENT_BYTES:
        raise BadEvent(f"the event has {len(body)} bytes, the limit is {MAX_EVENT_BYTES}: publish the fields of docs/events.md only")
    try:
        event = msgspec.json.decode(body, type=event_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent(f"the event is not a valid {event_type.__name__}: {error}; docs/events.md lists the fields") from error
    # What was decoded close to the limit of recursion could not be encoded again deeper in the program.
    if _is_deeper(event.config_overrides, MAX_NESTING):
        raise BadEvent(f"the event's config_overrides are nested more than {MAX_NESTING} deep, expected keys of the strategy file")
    return event


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    below = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in below)


def stage_of(event_type: type[EpisodeReady]) -> Stage:
    """Return the word for an event type in subjects and message ids."""
    return _STAGE_BY_TYPE[event_type]


def subject(event: EpisodeReady) -> str:
    """Return the subject an event is published to (``episode.ready.{source}``, ``episode.converted.{spool}``, …)."""
    tail = event.spool if type(event) is EpisodeConverted else event.source
    return f"episode.{stage_of(type(event))}.{tail}"


_STAGE_BY_TYPE: dict[type[EpisodeReady], Stage] = {
    EpisodeReady: "ready",
    EpisodeConverted: "converted",
    EpisodeUploaded: "uploaded",
    EpisodeFailed: "failed",
}
