"""Events survive the wire whole, ignore what they do not know, and refuse hostile bodies with one sentence."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.errors import BadEvent
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded

READY: dict[str, Any] = {"episode_id": "episode_0001", "source": "local"}
CONVERTED = EpisodeConverted(**READY, spool="default", path="local/x", frames=3, duration_s=0.1, num_bytes=9, digest="sha256:0")
UPLOADED = EpisodeUploaded(**msgspec.structs.asdict(CONVERTED), uri="s3://bucket/x")
FAILED = EpisodeFailed(
    **READY,
    strategy="window",
    config_overrides={"video": {"crf": 30}, "alignment.tolerance_ms": 5},
    timestamp=12.5,
    task="stack",
    dataset="user/name",
    stage="uploader",
    reason="exhausted",
    error_type="StoreUnavailable",
    error="no answer",
    attempts=5,
    host="robot",
    failed_at=99.0,
    converted=CONVERTED,
)

names = st.from_regex(events.NAME_PATTERN.replace("^", r"\A"), fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)


def refusal(body: bytes | dict[str, Any], event_type: type[EpisodeReady] = EpisodeReady) -> str:
    with pytest.raises(BadEvent) as caught:
        events.decode(body if isinstance(body, bytes) else json.dumps(body).encode(), event_type)
    return str(caught.value)


@pytest.mark.parametrize("event", [EpisodeReady(**READY), CONVERTED, UPLOADED, FAILED])
def test_every_event_survives_the_wire(event: EpisodeReady) -> None:
    assert events.decode(events.encode(event), type(event)) == event


@given(
    episode_id=names,
    source=names,
    strategy=st.sampled_from([None, "nearest", "chunking", "window"]),
    config_overrides=st.dictionaries(st.text(), json_values, max_size=3),
    timestamp=st.floats(allow_nan=False, allow_infinity=False),
    task=st.none() | st.text(),
)
def test_any_ready_event_survives_the_wire(**fields: Any) -> None:
    event = EpisodeReady(**fields)

    assert events.decode(events.encode(event), EpisodeReady) == event


def test_the_task_json_of_the_old_queue_is_a_ready_event() -> None:
    task = b'{"episode_id":"episode_0001","source":"bos","strategy":"chunking","config_overrides":{},"timestamp":1700000000.5}'

    assert events.decode(task, EpisodeReady) == EpisodeReady(
        episode_id="episode_0001", source="bos", strategy="chunking", timestamp=1700000000.5
    )


def test_missing_optional_fields_default_and_unknown_fields_are_ignored() -> None:
    assert events.decode(json.dumps({**READY, "invented_later": {"a": [1]}}).encode(), EpisodeReady) == EpisodeReady(**READY)


def test_the_body_of_a_failed_event_is_the_ready_event_that_retries_it() -> None:
    again = events.decode(events.encode(FAILED), EpisodeReady)

    assert type(again) is EpisodeReady
    assert msgspec.structs.asdict(again) == {name: getattr(FAILED, name) for name in EpisodeReady.__struct_fields__}


@pytest.mark.parametrize("field", ["episode_id", "source"])
@pytest.mark.parametrize(
    "value", ["", ".", "..", "../x", "a/b", "a\\b", "/etc", "-rf", ".hidden", "a b", "a\n", "a\x00", "é", "a*", "x" * 129]
)
def test_ids_that_could_leave_their_folder_key_or_subject_are_refused(field: str, value: str) -> None:
    sentence = refusal({**READY, field: value})

    assert sentence.startswith("the event is not a valid EpisodeReady: Expected `str` matching regex")
    assert f"`$.{field}`" in sentence
    assert sentence.endswith("; docs/events.md lists the fields")


@pytest.mark.parametrize("value", ["a/b/c", "../a", "a/..", "/a", "a/", "a//b", "a\n"])
def test_dataset_names_that_could_leave_their_folder_are_refused(value: str) -> None:
    assert "`$.dataset`" in refusal({**READY, "dataset": value})


def test_a_spool_is_a_name_too() -> None:
    document = {**msgspec.to_builtins(CONVERTED), "spool": "../other"}

    assert "`$.spool`" in refusal(document, EpisodeConverted)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"episode_id": 7}, "Expected `str`, got `int` - at `$.episode_id`"),
        ({"episode_id": None}, "Expected `str`, got `null` - at `$.episode_id`"),
        ({"strategy": "best"}, "Invalid enum value 'best' - at `$.strategy`"),
        ({"config_overrides": []}, "Expected `object`, got `array` - at `$.config_overrides`"),
        ({"timestamp": "now"}, "Expected `float`, got `str` - at `$.timestamp`"),
        ({"raw": ["x"]}, "Expected `str | null`, got `array` - at `$.raw`"),
    ],
)
def test_wrong_types_are_refused_with_the_field(changes: dict[str, Any], problem: str) -> None:
    assert refusal({**READY, **changes}) == f"the event is not a valid EpisodeReady: {problem}; docs/events.md lists the fields"


def test_a_missing_field_is_refused_by_name() -> None:
    assert refusal({"source": "local"}) == (
        "the event is not a valid EpisodeReady: Object missing required field `episode_id`; docs/events.md lists the fields"
    )


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"episode"',
        b"{",
        b'{"episode_id":"a","source":"b"} trailing',
        b'{"episode_id":"a\xff","source":"b"}',
        b'\xff\xfe{"episode_id":"a","source":"b"}',
        b'{"episode_id":"a","source":"b","timestamp":1e999}',
        b'{"episode_id":"a","source":"b","timestamp":NaN}',
        b'{"episode_id":"a","source":"b","task":"\\ud800"}',
        b'{"episode_id":"a","source":"b","config_overrides":{"a":' + DEEP + b"}}",
        b'{"episode_id":"a","source":"b","ignored":' + DEEP + b"}",
    ],
)
def test_hostile_bodies_are_one_sentence_and_not_a_crash(body: bytes) -> None:
    assert refusal(body).startswith("the event is not a valid EpisodeReady: ")


def test_a_huge_integer_in_an_override_does_not_hang() -> None:
    body = b'{"episode_id":"a","source":"b","config_overrides":{"video.fps":' + b"9" * 100_000 + b"}}"

    try:
        overrides = events.decode(body, EpisodeReady).config_overrides
    except BadEvent as error:
        overrides = {"refused": str(error)}
    assert set(overrides) in ({"video.fps"}, {"refused"})


def test_of_a_key_that_is_there_twice_the_last_value_is_still_checked() -> None:
    assert events.decode(b'{"episode_id":"a","source":"b","episode_id":"c"}', EpisodeReady).episode_id == "c"
    assert "`$.episode_id`" in refusal(b'{"episode_id":"a","source":"b","episode_id":"../c"}')


def test_a_body_above_the_limit_is_refused_before_it_is_decoded() -> None:
    assert refusal(b"{" * (2 * 1024 * 1024)) == (
        "the event has 2097152 bytes, the limit is 524288: publish the fields of docs/events.md only"
    )


def test_subjects_name_the_stage_and_the_source_or_spool() -> None:
    every = [EpisodeReady(**READY), CONVERTED, UPLOADED, FAILED]

    assert [events.subject(event) for event in every] == [
        "episode.ready.local",
        "episode.converted.default",
        "episode.uploaded.local",
        "episode.failed.local",
    ]
    assert [events.stage_of(type(event)) for event in every] == ["ready", "converted", "uploaded", "failed"]
