"""JSON objects of the metadata as frozen structs that keep the keys they do not know.

LeRobot ignores unknown keys and other tools store provenance in them, so a rewrite must not lose them:
a record's ``extra`` holds what its struct has no field for, and is written after the known keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from shared.errors import BadDataset


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object with known fields and, in ``extra``, the unknown ones in their order.

    Attributes:
        KEYS: JSON key by field, where they differ.
        BELOW: record type by field, for a field that maps names to records.
    """

    KEYS: ClassVar[Mapping[str, str]] = {}
    BELOW: ClassVar[Mapping[str, type[Record]]] = {}

    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class EpisodeLine(Record, frozen=True, kw_only=True):
    """A line of episodes.jsonl: the distinct task texts and the number of rows of one episode."""

    episode_index: int
    tasks: list[str]
    length: int


class TaskLine(Record, frozen=True, kw_only=True):
    """A line of tasks.jsonl."""

    task_index: int
    task: str


class FeatureStats(Record, frozen=True, kw_only=True):
    """Statistics of one feature over one episode, as nested lists; ``count`` is ``[rows]``."""

    min: list[Any]
    max: list[Any]
    mean: list[Any]
    std: list[Any]
    count: list[int]


class StatsLine(Record, frozen=True, kw_only=True):
    """A line of episodes_stats.jsonl."""

    BELOW: ClassVar[Mapping[str, type[Record]]] = {"stats": FeatureStats}

    episode_index: int
    stats: dict[str, FeatureStats]


class ProvenanceLine(Record, frozen=True, kw_only=True):
    """A line of meta/episodeflow/episodes.jsonl: which raw episode a committed episode is."""

    episode_index: int
    source: str
    episode_id: str
    strategy: str
    digest: str


class Manifest(Record, frozen=True, kw_only=True):
    """The four keys of an episode's manifest that the dataset itself needs; the rest is the converter's."""

    source: str
    episode_id: str
    strategy: str
    digest: str


R = TypeVar("R", bound=Record)


def decoded(document: object, record_type: type[R], *, place: str) -> R:
    """Return a decoded JSON object as a record.

    Args:
        document: what the JSON said.
        record_type: the record's struct.
        place: the file (and line), for the error.

    Raises:
        BadDataset: no object, a key missing, or a value of a wrong type.
    """
    if not isinstance(document, Mapping):
        raise BadDataset(f"{place}: holds a {type(document).__name__}, expected a JSON object; restore it from a backup or convert again")
    field_by_key = _field_by_key(record_type)
    fields = {field_by_key[key]: value for key, value in document.items() if key in field_by_key}
    for name, below in record_type.BELOW.items():
        if isinstance(value := fields.get(name), Mapping):
            fields[name] = {key: decoded(inner, below, place=f"{place}: {name}.{key}") for key, inner in value.items()}
    extra = {key: value for key, value in document.items() if key not in field_by_key}
    try:
        return msgspec.convert({**fields, "extra": extra}, type=record_type, strict=True)
    except msgspec.ValidationError as error:
        raise BadDataset(f"{place}: {error}; LeRobot v2.1 needs these keys: {', '.join(field_by_key)}") from error


def plain(record: Record) -> dict[str, Any]:
    """Return a record as the JSON object to write: its fields in their order, then ``extra``."""
    known = {key: _plain_value(getattr(record, name)) for key, name in _field_by_key(type(record)).items()}
    return {key: value for key, value in known.items() if value is not msgspec.UNSET} | record.extra


def encoded_line(record: Record) -> bytes:
    """Return a record as one line of a jsonl file, with its newline.

    Raises:
        ValueError: a value is NaN or infinite, which no JSON reader must accept.
    """
    return (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode()


def encoded_lines(records: Iterable[Record]) -> bytes:
    """Return the content of a jsonl file: one line per record, one final newline, no blank line."""
    return b"".join(encoded_line(record) for record in records)


def read_lines(path: Path, record_type: type[R]) -> list[R]:
    """Return the records of a jsonl file.

    Raises:
        BadDataset: the file cannot be read, has a blank line, or a line is not such a record.
    """
    return decoded_lines(read_bytes(path), record_type, place=str(path))


def decoded_lines(content: bytes, record_type: type[R], *, place: str) -> list[R]:
    """Return the records in a jsonl file's content.

    Raises:
        BadDataset: a blank line (LeRobot refuses it too), or a line that is not such a record.
    """
    lines = content.removesuffix(b"\n").split(b"\n") if content else []
    return [
        decoded(decoded_json(line, f"{place} line {number}"), record_type, place=f"{place} line {number}")
        for number, line in enumerate(lines, 1)
    ]


def decoded_json(content: bytes, place: str) -> Any:
    """Return the JSON value in ``content``.

    Raises:
        BadDataset: it is empty or no JSON.
    """
    if not content.strip():
        raise BadDataset(f"{place}: is blank, expected a JSON object; LeRobot refuses blank lines: delete it")
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadDataset(f"{place}: is not valid JSON ({error}); restore it from a backup or convert again") from error


def read_bytes(path: Path) -> bytes:
    """Return a metadata file's content.

    Raises:
        BadDataset: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadDataset(f"{path}: cannot be read ({error.strerror}), expected a file of a LeRobot v2.1 dataset") from error


def _field_by_key(record_type: type[Record]) -> dict[str, str]:
    return {record_type.KEYS.get(name, name): name for name in record_type.__struct_fields__ if name != "extra"}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Record):
        return plain(value)
    if isinstance(value, dict):
        return {key: _plain_value(below) for key, below in value.items()}
    return list(value) if isinstance(value, tuple) else value
