"""Defective metadata.json, and the task in it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.corpus.cases import Corpus

METADATA = Corpus("Metadata and task")


def write(folder: Path, content: bytes) -> None:
    """Write the episode's metadata."""
    (folder / "joints/metadata.json").write_bytes(content)


def write_task(folder: Path, task: str) -> None:
    """Write metadata with nothing but a task."""
    write(folder, msgspec.json.encode({"task": task}))


@METADATA.refused("joints/metadata.json: is not valid: Input data was truncated; expected a JSON object, or no file at all")
def metadata_empty(folder: Path) -> None:
    """An empty file."""
    write(folder, b"")


@METADATA.refused("joints/metadata.json: has 8589934592 bytes, the limit is 1048576")
def metadata_huge(folder: Path) -> None:
    """A file of 8 GiB."""
    write(folder, b"{")
    os.truncate(folder / "joints/metadata.json", 8 * 1024**3)


@METADATA.refused(
    "joints/metadata.json: is not valid: Expected `str | null`, got `int` - at `$.task`; expected a JSON object, or no file at all"
)
def metadata_wrong_type(folder: Path) -> None:
    """A task that is a number."""
    write(folder, b'{"task": 7}')


@METADATA.refused("joints/metadata.json: is not valid: Expected `object`, got `array`; expected a JSON object, or no file at all")
def metadata_no_object(folder: Path) -> None:
    """A list in the place of an object."""
    write(folder, b'["stack blocks"]')


@METADATA.refused(
    "joints/metadata.json: is not valid: maximum recursion depth exceeded while deserializing an object; "
    "expected a JSON object, or no file at all"
)
def metadata_deep(folder: Path) -> None:
    """A list nested a hundred thousand times."""
    write(folder, b'{"other": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@METADATA.refused(
    "joints/metadata.json: is not valid: 'utf-8' codec can't decode byte 0xf6 in position 2: invalid "
    "start byte; expected a JSON object, or no file at all"
)
def metadata_not_utf8(folder: Path) -> None:
    """Latin-1 text."""
    write(folder, '{"task": "Bl\u00f6cke"}'.encode("latin-1"))


@METADATA.refused(
    "joints/metadata.json: is not valid: JSON is malformed: unexpected end of escaped utf-16 surrogate "
    "pair (byte 17); expected a JSON object, or no file at all"
)
def task_surrogate(folder: Path) -> None:
    """A task with half a character (a lone surrogate)."""
    write(folder, b'{"task": "a\\ud800 block"}')


@METADATA.refused("task: has 1020000 characters, expected an instruction of at most 4096")
def task_megabyte(folder: Path) -> None:
    """A task of nearly one megabyte."""
    write_task(folder, "stack " * 170_000)


@METADATA.refused("task: has the character '\\x00' at position 5, expected text without control characters")
def task_control_characters(folder: Path) -> None:
    """A task with a NUL."""
    write_task(folder, "stack\0blocks")


@METADATA.refused("task: has the character '\\x1b' at position 0, expected text without control characters")
def task_terminal_codes(folder: Path) -> None:
    """A task that clears the terminal of whoever reads it."""
    write_task(folder, "\x1b[2Jstack blocks")


@METADATA.works()
def task_lines(folder: Path) -> None:
    """A task of two lines, quotes and letters of several scripts."""
    write_task(folder, 'Stack "blocks".\nThen 積み木 \U0001f9f1.')


@METADATA.works()
def metadata_other_keys(folder: Path) -> None:
    """Keys that nobody knows."""
    write(folder, b'{"task": null, "operator": {"id": 7}, "task": "stack"}')
