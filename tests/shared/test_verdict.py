"""What becomes of a message whose handling failed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events, verdict
from shared.errors import BadRaw, StoreUnavailable, WorkerCrashed
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady

READY = EpisodeReady(episode_id="e1", source="robot", strategy="window", task="pick", raw="file:///raw/e1", dataset="lab/pick")


def failed(event: EpisodeReady, error: Exception) -> EpisodeFailed:
    return verdict.failed_event(event, error, stage="converter", reason="rejected", attempts=2, host="h", failed_at=1.0)


def test_delay_doubles_from_one_second_and_stops_at_five_minutes() -> None:
    assert [verdict.retry_delay_s(attempt) for attempt in (1, 2, 3, 8, 9, 10, 10_000)] == [1, 2, 4, 128, 256, 300, 300]


@given(st.integers(min_value=-5, max_value=10**9))
def test_delay_is_always_between_one_second_and_five_minutes(attempt: int) -> None:
    assert 1 <= verdict.retry_delay_s(attempt) <= 300


@pytest.mark.parametrize(
    ("error", "attempt", "expected"),
    [
        (BadRaw("x", "y"), 1, "rejected"),
        (StoreUnavailable("x"), 2, None),
        (StoreUnavailable("x"), 3, "exhausted"),
        (WorkerCrashed("x"), 2, None),
        (WorkerCrashed("x"), 3, "crashed"),
        (KeyError("x"), 1, None),
        (KeyError("x"), 4, "exhausted"),
    ],
)
def test_reason_follows_from_the_kind_of_error_and_the_attempts(error: Exception, attempt: int, expected: str | None) -> None:
    assert verdict.failure_reason(error, attempt=attempt, strikes=attempt, max_attempts=3, patience_s=0) == expected


@pytest.mark.parametrize(("attempt", "expected"), [(3, None), (20, None), (21, "exhausted")])
def test_an_outage_uses_up_an_hour_of_rests_whatever_the_attempts(attempt: int, expected: str | None) -> None:
    reason = verdict.failure_reason(StoreUnavailable("x"), attempt=attempt, strikes=attempt, max_attempts=3, patience_s=3600)

    assert reason == expected
    assert (
        sum(verdict.retry_delay_s(before) for before in range(1, 20))
        < 3600
        <= sum(verdict.retry_delay_s(before) for before in range(1, 21))
    )


def test_a_crash_is_judged_by_the_deliveries_that_count_against_the_episode() -> None:
    def reason(strikes: int) -> str | None:
        return verdict.failure_reason(WorkerCrashed("x"), attempt=50, strikes=strikes, max_attempts=3, patience_s=3600)

    assert (reason(2), reason(3)) == (None, "crashed")


def test_the_world_is_excused_and_a_crash_or_a_mistake_is_not() -> None:
    assert [verdict.is_excused(error) for error in (StoreUnavailable("x"), WorkerCrashed("x"), KeyError("x"), BadRaw("x", "y"))] == [
        True,
        False,
        False,
        False,
    ]


def test_message_id_names_stage_episode_and_the_message_it_follows_from() -> None:
    assert verdict.message_id(failed(READY, BadRaw("x", "y")), seq=17) == "failed:robot:e1:window:17"
    assert verdict.message_id(EpisodeReady(episode_id="e", source="s"), seq=3) == "ready:s:e:configured:3"


def test_failure_decodes_as_the_ready_event_it_was() -> None:
    body = events.encode(failed(READY, BadRaw("x", "y")))

    assert events.decode(body, EpisodeReady) == READY


def test_a_file_name_that_is_no_utf8_does_not_keep_the_failure_from_being_told() -> None:
    error = BadRaw("images/\udcff.jpg", "is not named by a timestamp")
    failed = verdict.failed_event(READY, error, stage="converter", reason="rejected", attempts=1, host="host", failed_at=1.0)

    assert events.decode(events.encode(failed), EpisodeFailed).error == "images/\\udcff.jpg: is not named by a timestamp"


def test_failed_upload_keeps_what_was_converted() -> None:
    converted = EpisodeConverted(
        episode_id="e1", source="robot", spool="s", path="p", frames=1, duration_s=1.0, num_bytes=1, digest="d"
    )  # fmt: skip

    assert failed(converted, StoreUnavailable("x")).converted == converted


def test_failure_of_an_event_at_the_size_limit_is_still_readable_and_says_what_is_left_out() -> None:
    event = EpisodeReady(episode_id="e1", source="robot", config_overrides={"x": "y" * (events.MAX_EVENT_BYTES - 200)})
    failure = failed(event, BadRaw("a" * 100_000, "is broken"))

    assert events.decode(events.encode(failure), EpisodeFailed) == failure
    assert "config_overrides are left out" in failure.error


def test_unreadable_body_keeps_the_names_that_are_sound() -> None:
    event = verdict.unreadable_event(b'{"episode_id": "e7", "source": "../x", "strategy": "magic", "timestamp": "no"}')

    assert (event.episode_id, event.source, event.strategy) == ("e7", "unknown", None)


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_body_gives_a_valid_event_and_printable_text(body: bytes) -> None:
    event = verdict.unreadable_event(body)

    assert events.decode(events.encode(event), EpisodeReady) == event
    assert re.match(events.NAME_PATTERN, event.episode_id)
    assert verdict.body_text(body).isprintable()


def test_unhashable_values_in_a_body_are_no_crash() -> None:
    assert verdict.unreadable_event(b'{"strategy": ["window"], "episode_id": {}}').episode_id == "unreadable"


def test_text_of_a_large_body_is_cut() -> None:
    assert len(verdict.body_text(b"x" * 2_000_000)) < 9_000
