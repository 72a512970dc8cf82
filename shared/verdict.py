"""What becomes of a message whose handling failed: when it comes again, or with which words it fails.

Pure: errors and events in, delays and events out.
"""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec

from shared import events
from shared.errors import Rejected, Retryable, WorkerCrashed
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, Reason

_LONGEST_DELAY_S = 300.0
_LONGEST_TEXT = 8 * 1024
_UNREADABLE_ID = "unreadable"
_UNKNOWN_SOURCE = "unknown"


def retry_delay_s(attempt: int) -> float:
    """Return how long a message rests after its ``attempt``-th delivery (from 1) failed: 1, 2, 4, … at most 300 s."""
    return min(2.0 ** min(max(attempt, 1) - 1, 32), _LONGEST_DELAY_S)


def num_patient_attempts(patience_s: float) -> int:
    """Return the first delivery before which a message rested for ``patience_s`` in all (3600 s: the 21st)."""
    attempt, rested_s = 1, 0.0
    while rested_s < patience_s:
        rested_s += retry_delay_s(attempt)
        attempt += 1
    return attempt


def failure_reason(error: Exception, *, attempt: int, strikes: int, max_attempts: int, patience_s: float) -> Reason | None:
    """Return why the episode fails for good, or None if it is tried again.

    What the world does to an episode (a store that is away, a full disk) is a matter of time, not of the episode: it uses
    up ``patience_s``, counted as the rests between deliveries. What an episode does to its workers is a matter of number.

    Args:
        error: why the delivery failed.
        attempt: the server's number of the delivery, from 1.
        strikes: those deliveries that count against the episode: all but the ones that the world ended.
        max_attempts: strikes after which an episode fails.
        patience_s: how long the world may take to heal.
    """
    if isinstance(error, Rejected):
        return "rejected"
    if isinstance(error, WorkerCrashed):
        return "crashed" if strikes >= max_attempts else None
    if isinstance(error, Retryable):
        return "exhausted" if attempt >= max(max_attempts, num_patient_attempts(patience_s)) else None
    return "exhausted" if strikes >= max_attempts else None


def is_excused(error: Exception) -> bool:
    """Say whether a failed delivery does not count against its episode."""
    return isinstance(error, Retryable) and not isinstance(error, WorkerCrashed)


def message_id(event: EpisodeReady, *, seq: int) -> str:
    """Return the id of an event that follows from the message ``seq``: the same for every delivery of that message."""
    return f"{events.stage_of(type(event))}:{event.source}:{event.episode_id}:{event.strategy or 'configured'}:{seq}"


def failed_event(
    event: EpisodeReady, error: Exception, *, stage: str, reason: Reason, attempts: int, host: str, failed_at: float
) -> EpisodeFailed:
    """Return the failure of an event: the event itself plus what went wrong, small enough for every reader.

    Args:
        event: what was worked on.
        error: why it failed.
        stage: which service gave up.
        reason: see ``EpisodeFailed``.
        attempts: deliveries used.
        host: where it happened.
        failed_at: seconds since the epoch.
    """
    fields = {name: getattr(event, name) for name in EpisodeReady.__struct_fields__}
    failed = EpisodeFailed(
        **fields,
        stage=stage,
        reason=reason,
        error_type=type(error).__name__,
        error=_shortened(str(error) or type(error).__name__),
        attempts=attempts,
        host=host,
        failed_at=failed_at,
        converted=event if type(event) is EpisodeConverted else None,
    )
    if len(events.encode(failed)) <= events.MAX_EVENT_BYTES:
        return failed
    note = "; the event was too large to be kept with its failure: its config_overrides are left out"
    return msgspec.structs.replace(failed, config_overrides={}, converted=None, raw=None, task=None, error=failed.error + note)


def unreadable_event(body: bytes) -> EpisodeReady:
    """Return what can be read of a body that is no valid event; names that cannot be read get safe ones in their place."""
    fields = _fields(body)
    strategy = fields.get("strategy")
    return EpisodeReady(
        episode_id=_name(fields.get("episode_id")) or _UNREADABLE_ID,
        source=_name(fields.get("source")) or _UNKNOWN_SOURCE,
        strategy=strategy if strategy in get_args(events.Strategy) else None,
    )


def body_text(body: bytes) -> str:
    """Return a hostile body as text that is safe to keep: printable, at most 8 Ki characters."""
    text = body[: 4 * _LONGEST_TEXT].decode("utf-8", errors="replace")
    return _shortened("".join(letter if letter.isprintable() else "�" for letter in text))


def _fields(body: bytes) -> dict[Any, Any]:
    if len(body) > events.MAX_EVENT_BYTES:
        return {}
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return decoded if isinstance(decoded, dict) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and re.match(events.NAME_PATTERN, value) else None


def _shortened(text: str) -> str:
    """Return a text of bounded length that can be encoded: file names that are no UTF-8 come as lone surrogates."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}… ({len(text)} characters in all)"
