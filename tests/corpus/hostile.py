"""Hostile events: bodies on ``episode.ready.lab`` that are no honest task."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.events import MAX_EVENT_BYTES, NAME_PATTERN
from tests.corpus.cases import EventCase

SOURCE = "lab"
_FIELDS = "; docs/events.md lists the fields"
_PATTERN = NAME_PATTERN.replace("\\", "\\\\")
_NOT_VALID = "the event is not a valid EpisodeReady: "
_MOVES = "config_overrides names input or output: an event may change how an episode is converted, not where files are"


def _event(name: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"episode_id": name, "source": SOURCE, **fields})


def _nested(name: str, depth: int) -> bytes:
    return b'{"episode_id":"%s","source":"lab","config_overrides":%s1%s}' % (name.encode(), b'{"a":' * depth, b"}" * depth)


def _unreadable(name: str, what: str, body: bytes, problem: str, *, is_named: bool = False) -> EventCase:
    """Return a case of a body that does not decode; its sentence goes on with the message's number and its text."""
    return EventCase(name=name, what=what, body=body, sentence=f"{_NOT_VALID}{problem}{_FIELDS}", error_type="BadEvent", is_named=is_named)


def _refused(name: str, what: str, sentence: str, **fields: Any) -> EventCase:
    """Return a case of an event that decodes and asks for what it may not have."""
    return EventCase(name=name, what=what, body=_event(name, **fields), sentence=sentence, error_type="BadEvent", is_named=True)


def _other(name: str, what: str, sentence: str, *, error_type: str = "BadRaw", **fields: Any) -> EventCase:
    """Return a case of an event that is sound but for what it points to."""
    return EventCase(name=name, what=what, body=_event(name, **fields), sentence=sentence, error_type=error_type, is_named=True)


def _id(name: str, what: str, episode_id: object) -> EventCase:
    body = msgspec.json.encode({"episode_id": episode_id, "source": SOURCE})
    return _unreadable(name, what, body, f"Expected `str` matching regex '{_PATTERN}' - at `$.episode_id`")


_TOO_LARGE = "the event has {} bytes, the limit is {}: publish the fields of docs/events.md only"
_HUGE = _event("event_2_mb", task="x" * 2_000_000)
_DEEP = "the event's config_overrides are nested more than 16 deep, expected keys of the strategy file"
_NO_FOLDER = "names no folder of this host: expected file:/// and an absolute path, three slashes in all"
_DETOUR = "contains '..': expected an absolute path without detours"

EVENTS: tuple[EventCase, ...] = (
    _unreadable("event_empty", "An empty body", b"", "Input data was truncated"),
    _unreadable("event_not_json", "Text that is no JSON", b"convert episode 7, please", "JSON is malformed: invalid character (byte 0)"),
    _unreadable(
        "event_not_utf8",
        "Bytes that are not UTF-8",
        b'{"episode_id":"e","source":"\xff\xfe"}',
        "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    ),
    _unreadable("event_array", "A list in the place of an object", b'["episode_0001","lab"]', "Expected `object`, got `array`"),
    _unreadable("event_null", "The word null", b"null", "Expected `object`, got `null`"),
    _unreadable("event_truncated", "A body cut off", b'{"episode_id":"e","source":"lab"', "Input data was truncated"),
    _unreadable(
        "event_trailing",
        "Two objects in one body",
        b'{"episode_id":"e","source":"lab"}{}',
        "JSON is malformed: trailing characters (byte 34)",
    ),
    _unreadable(
        "event_no_source", "No source", b'{"episode_id":"event_no_source"}', "Object missing required field `source`", is_named=True
    ),
    EventCase(
        name="event_2_mb",
        what="An event of 2 MB",
        body=_HUGE,
        sentence=_TOO_LARGE.format(len(_HUGE), MAX_EVENT_BYTES),
        error_type="BadEvent",
        is_named=False,
    ),
    _unreadable(
        "event_deep",
        "Overrides nested ten thousand deep",
        _nested("event_deep", 10_000),
        "maximum recursion depth exceeded while deserializing an object",
    ),
    EventCase(
        name="event_nearly_too_deep",
        what="Overrides nested nine hundred deep: readable, but hardly writable again",
        body=_nested("event_nearly_too_deep", 900),
        sentence=_DEEP,
        error_type="BadEvent",
        is_named=True,
    ),
    _unreadable(
        "event_huge_number",
        "A timestamp of five thousand digits",
        b'{"episode_id":"e","source":"lab","timestamp":' + b"9" * 5000 + b"}",
        "Number out of range - at `$.timestamp`",
    ),
    _unreadable(
        "event_infinite",
        "A timestamp of 1e999",
        b'{"episode_id":"e","source":"lab","timestamp":1e999}',
        "Number out of range - at `$.timestamp`",
    ),
    _unreadable(
        "event_wrong_type",
        "A timestamp in words",
        _event("event_wrong_type", timestamp="now"),
        "Expected `float`, got `str` - at `$.timestamp`",
        is_named=True,
    ),
    _unreadable(
        "event_task_number",
        "A task that is a number",
        _event("event_task_number", task=7),
        "Expected `str | null`, got `int` - at `$.task`",
        is_named=True,
    ),
    _unreadable(
        "event_task_surrogate",
        "A task with half a character",
        b'{"episode_id":"e","source":"lab","task":"\\ud800 "}',
        "Input data was truncated",
    ),
    _unreadable(
        "event_overrides_list",
        "Overrides as a list",
        _event("event_overrides_list", config_overrides=[1]),
        "Expected `object`, got `array` - at `$.config_overrides`",
        is_named=True,
    ),
    _unreadable(
        "event_strategy",
        "An unknown strategy",
        _event("event_strategy", strategy="magic"),
        "Invalid enum value 'magic' - at `$.strategy`",
        is_named=True,
    ),
    _unreadable(
        "event_dataset",
        "A dataset that is a path",
        _event("event_dataset", dataset="../../evil"),
        "Expected `str` matching regex '^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?\\\\Z' - at `$.dataset`",
        is_named=True,
    ),
    _id("id_up", "An id that leads upwards", "../../etc"),
    _id("id_absolute", "An absolute id", "/etc/passwd"),
    _id("id_nested", "An id with a slash", "a/b"),
    _id("id_encoded", "A percent-encoded id", "%2e%2e%2fetc"),
    _id("id_hidden", "An id that begins with a dot", "..."),
    _id("id_empty", "An empty id", ""),
    _id("id_long", "An id of two hundred letters", "x" * 200),
    _id("id_newline", "An id with a line break", "episode\n"),
    _id("id_nul", "An id with a NUL", "a\0b"),
    _id("id_wildcard", "An id that is a wildcard of NATS", "*"),
    _refused(
        "source_unknown",
        "A source that is not configured",
        "the source 'elsewhere' is not configured: expected one of lab; add it to sources in the storage file",
        source="elsewhere",
    ),
    _refused("raw_other_host", "A folder of another host", f"raw: 'file://host/data' {_NO_FOLDER}", raw="file://host/data"),
    _refused("raw_relative", "A relative folder", f"raw: 'file:data/ep' {_NO_FOLDER}", raw="file:data/ep"),
    _refused("raw_up", "A folder with ..", f"raw: 'file:///data/../etc' {_DETOUR}", raw="file:///data/../etc"),
    _refused(
        "raw_encoded_up", "A folder with .. percent-encoded", f"raw: 'file:///data/%2e%2e/etc' {_DETOUR}", raw="file:///data/%2e%2e/etc"
    ),
    _refused("raw_nul", "A folder with a NUL", f"raw: 'file:///data%00' {_NO_FOLDER}", raw="file:///data%00"),
    _refused(
        "raw_http",
        "A web address",
        "raw: 'http://example.org/ep' is no store: expected file:///absolute/folder or s3://bucket/prefix",
        raw="http://example.org/ep",
    ),
    _refused(
        "raw_no_bucket",
        "An address without a bucket",
        "raw: 's3:///ep' names no bucket: expected s3://bucket/prefix, the bucket with 3 to 63 of a-z 0-9 . _ -",
        raw="s3:///ep",
    ),
    _other(
        "raw_long",
        "A folder of five thousand letters",
        f"file:///{'a' * 112}… (5008 characters): cannot be read: File name too long",
        raw="file:///" + "a" * 5000,
    ),
    _other(
        "raw_missing",
        "A folder that is not there",
        "file:///no/such/episode: is not there, expected a raw episode with joints/ and images/",
        raw="file:///no/such/episode",
    ),
    _other(
        "raw_etc",
        "A folder of the host that is no episode",
        "camera cam_base, cam_side has no frames; record it again, or set filtering.require_all_cameras: false",
        raw="file:///etc",
        error_type="Filtered",
    ),
    _other(
        "episode_missing",
        "An episode that is not there",
        "file://{store}/raw_datas/episode_missing: is not there, expected a raw episode with joints/ and images/",
    ),
    _refused("moves_input", "Overrides that name the input", _MOVES, config_overrides={"input": {"data_path": "/etc"}}),
    _refused("moves_output", "Overrides that name the output", _MOVES, config_overrides={"output.base_path": "/etc"}),
    _refused("moves_output_number", "A number in the place of the output", _MOVES, config_overrides={"output": 5}),
    _refused("moves_output_null", "Null in the place of the output", _MOVES, config_overrides={"output": None}),
)
