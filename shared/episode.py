"""The vocabulary of a raw episode: arms, cameras, names and places, without touching a file.

Two layouts hold the same things:

    local    {root}/joints/{task}/{episode}/{arm}.parquet   {root}/images/{task}/{episode}/{camera}/{timestamp_us}.jpg
    bucket   {raw_prefix}{episode}/joints/{arm}.parquet     {raw_prefix}{episode}/images/{camera}/{timestamp_us}.jpg
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

ArmRole = Literal["slave", "master"]
CameraRole = Literal["base", "sync", "downsample"]

FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z"
FileName = Annotated[str, msgspec.Meta(pattern=FILE_NAME)]

METADATA_FILE = "metadata.json"
"""Beside the parquet files; our recorder writes it last, so that it marks a complete raw episode."""

MAX_TASK_LETTERS = 4096
"""Of an instruction in words: refused before it is recorded, not only when it is converted."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_TIMESTAMP_NAME = re.compile(r"^([0-9]{1,18})\.jpe?g\Z", re.IGNORECASE)


class ArmConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One arm: its name, its parquet file (default ``{name}.parquet``), whether it leads or follows, and what its joints are called.

    ``joint_names``: what the values are called in the dataset, such as ``left_gripper.pos``; None: ``{name}_joint_{i}``.
    """

    name: FileName
    role: ArmRole
    file: FileName | None = None
    joint_names: tuple[str, ...] | None = None

    @property
    def file_name(self) -> str:
        """Name of the arm's parquet file."""
        return self.file or f"{self.name}.parquet"


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One camera: its folder name, its part in the timeline and its nominal rate in Hz."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
    role: CameraRole
    target_fps: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None


class RawMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What ``joints/metadata.json`` may say; other keys are ignored."""

    task: str | None = None
    robot_type: str | None = None


def frame_timestamp_us(file_name: str) -> int | None:
    """Return the microseconds in a camera file's name, or None if it is not named by a timestamp."""
    match = _TIMESTAMP_NAME.match(file_name)
    return int(match[1]) if match else None


def task_problem(task: str) -> str | None:
    """Return why a text is no instruction in words, or None; line breaks and tabs are kept."""
    if len(task) > MAX_TASK_LETTERS:
        return f"has {len(task)} characters, expected an instruction of at most {MAX_TASK_LETTERS}"
    control = _CONTROL.search(task)
    if control:
        return f"has the character {control[0]!r} at position {control.start()}, expected text without control characters"
    return None
