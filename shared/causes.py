"""Failures as an operator thinks of them: which are still open, and which share a cause. Pure.

Theory of operation. The stream is told in order. A failed event opens a failure for its (source, episode, strategy);
a later ready event for the same makes it ``retried``, a later success ``recovered``, a later failure takes its place.
A dataset that was converted mends what a converter failed at; what an uploader failed at is mended by an upload alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from shared import events
from shared.errors import BadEvent
from shared.events import EpisodeFailed, Reason

Status = Literal["open", "retried", "recovered"]
Key = tuple[str, str, str]

UNREADABLE_ID = "unreadable"
"""The episode id of a failure whose event could not be read; no two of them are the same episode."""

_UPLOADER = "uploader"
_HEXADECIMAL = re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{8,}\b")
_NUMBER = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_LONGEST_CAUSE = 300


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """The latest failure of one episode.

    Attributes:
        seq: number of the failed event in the stream.
        failed_at: seconds since the epoch.
        source, episode_id, strategy: the episode; strategy None means the configured one.
        stage, reason, error_type, error, attempts, host: as in ``EpisodeFailed``.
        status: ``open`` = nobody did anything; ``retried`` = published again, no result yet; ``recovered`` = succeeded since.
        times: how often in a row the episode failed.
    """

    seq: int
    failed_at: float
    source: str
    episode_id: str
    strategy: str | None
    stage: str
    reason: Reason
    error_type: str
    error: str
    attempts: int
    host: str
    status: Status = "open"
    times: int = 1


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Failures that have reason, error type and, numbers and names aside, the sentence in common.

    Attributes:
        reason, error_type, error: what they share; numbers in the sentence are ``#``, the episode is ``{episode}``.
        count: episodes.
        count_by_status: of them, by status.
        sources: names, sorted.
        newest_at: seconds since the epoch.
        example: the newest failure.
    """

    reason: str
    error_type: str
    error: str
    count: int
    count_by_status: dict[Status, int]
    sources: tuple[str, ...]
    newest_at: float
    example: Failure


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which failures are meant; None means every one.

    Attributes:
        episode_ids: names of episodes; empty: every one.
        source, reason, error_type: as in ``Failure``.
        since_s: failed at or after that many seconds since the epoch.
    """

    episode_ids: tuple[str, ...] = ()
    source: str | None = None
    reason: str | None = None
    error_type: str | None = None
    since_s: float | None = None

    def matches(self, failure: Failure) -> bool:
        """Return whether a failure is meant."""
        wanted = ((self.source, failure.source), (self.reason, failure.reason), (self.error_type, failure.error_type))
        return (
            (not self.episode_ids or failure.episode_id in self.episode_ids)
            and all(name in {None, found} for name, found in wanted)
            and (self.since_s is None or failure.failed_at >= self.since_s)
        )


class _Episode(msgspec.Struct, frozen=True):
    """Of any event: which episode it is about."""

    source: str
    episode_id: str
    strategy: str | None = None


class FailureLog:
    """What is known of failures after the messages taken so far; memory grows with the failed episodes only.

    Args:
        strategy: the configured one, which an event without a strategy means.

    Attributes:
        unreadable: numbers of failed events that do not decode (somebody published them by hand).
    """

    def __init__(self, *, strategy: str) -> None:
        self.unreadable: list[int] = []
        self._strategy = strategy
        self._failure_by_key: dict[Key, Failure] = {}

    def take(self, subject: str, *, seq: int, body: bytes) -> None:
        """Take the next message of the stream, of any subject."""
        stage = subject.split(".")[1] if "." in subject else ""
        if stage == "failed":
            self._take_failed(seq, body)
        elif self._failure_by_key:
            self._take_other(stage, body)

    def failures(self, selection: Selection | None = None) -> list[Failure]:
        """Return the selected failures, oldest first."""
        found = (failure for failure in self._failure_by_key.values() if selection is None or selection.matches(failure))
        return sorted(found, key=lambda failure: failure.seq)

    def _take_failed(self, seq: int, body: bytes) -> None:
        try:
            failed = events.decode(body, EpisodeFailed)
        except BadEvent:
            self.unreadable.append(seq)
            return
        key = self._key(failed.source, failed.episode_id, failed.strategy if failed.episode_id != UNREADABLE_ID else f"message {seq}")
        before = self._failure_by_key.get(key)
        failure = failure_of(failed, seq=seq)
        if before is not None and before.status != "recovered":
            failure = msgspec.structs.replace(failure, times=before.times + 1)
        self._failure_by_key[key] = failure

    def _take_other(self, stage: str, body: bytes) -> None:
        try:
            episode = msgspec.json.decode(body, type=_Episode)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # it fails on its own account, with an event that says so
        key = self._key(episode.source, episode.episode_id, episode.strategy)
        failure = self._failure_by_key.get(key)
        if failure is None:
            return
        status = _status_after(stage, failure)
        if status != failure.status:
            self._failure_by_key[key] = msgspec.structs.replace(failure, status=status)

    def _key(self, source: str, episode_id: str, strategy: str | None) -> Key:
        return source, episode_id, strategy or self._strategy


def failure_of(failed: EpisodeFailed, *, seq: int) -> Failure:
    """Return a failed event as an open failure; ``seq`` is the event's number in the stream."""
    names = set(Failure.__struct_fields__) & set(EpisodeFailed.__struct_fields__)
    return Failure(seq=seq, **{name: getattr(failed, name) for name in names})


def cause_text(failure: Failure) -> str:
    """Return the failure's sentence without what differs from episode to episode."""
    text = failure.error.replace(failure.episode_id, "{episode}")
    text = _NUMBER.sub("#", _HEXADECIMAL.sub("#", " ".join(text.split())))
    return text if len(text) <= _LONGEST_CAUSE else f"{text[:_LONGEST_CAUSE]}…"


def causes(failures: Iterable[Failure]) -> list[Cause]:
    """Return the failures grouped by cause, the most frequent first, then the newest."""
    groups: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.reason, failure.error_type, cause_text(failure)), []).append(failure)
    found = [_cause(*shared, members) for shared, members in groups.items()]
    return sorted(found, key=lambda cause: (-cause.count, -cause.newest_at, cause.error))


def _cause(reason: str, error_type: str, error: str, members: list[Failure]) -> Cause:
    newest = max(members, key=lambda failure: (failure.failed_at, failure.seq))
    count_by_status: dict[Status, int] = {}
    for failure in members:
        count_by_status[failure.status] = count_by_status.get(failure.status, 0) + 1
    return Cause(
        reason=reason,
        error_type=error_type,
        error=error,
        count=len(members),
        count_by_status=count_by_status,
        sources=tuple(sorted({failure.source for failure in members})),
        newest_at=newest.failed_at,
        example=newest,
    )


def _status_after(stage: str, failure: Failure) -> Status:
    if stage == "uploaded" or (stage == "converted" and failure.stage != _UPLOADER):
        return "recovered"
    return "retried" if stage == "ready" and failure.status == "open" else failure.status
