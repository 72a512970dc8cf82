"""What the recorder and its camera process say to each other, as MessagePack behind a length of four bytes. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.reports import CameraProblem, CameraReport, CameraStatus

LENGTH_BYTES = 4


class Message(msgspec.Struct, frozen=True, tag=True):
    """What is sent either way."""


class Open(Message, frozen=True):
    """Open the cameras and the display; ``offset_ns`` is the recorder's clock."""

    cameras: dict[str, CameraOptions]
    offset_ns: int
    display: str | None


class Opened(Message, frozen=True):
    """All cameras have warmed up; ``display_problem``: why nothing is displayed although it was asked for."""

    display_problem: str | None


class Refusal(Message, frozen=True):
    """What was asked for last cannot be done."""

    kind: Literal["refused", "unreachable"]
    sentence: str


class Start(Message, frozen=True):
    """Write every frame captured from ``start_us`` on to ``folder/{camera}/``."""

    folder: str
    start_us: int


class Started(Message, frozen=True):
    """Frames are being written."""


class Stop(Message, frozen=True):
    """Write what was captured until ``end_us``, and no more."""

    end_us: int


class Stopped(Message, frozen=True):
    """The frames are written."""

    reports: dict[str, CameraReport]


class Discard(Message, frozen=True):
    """Write nothing more of this episode."""


class Discarded(Message, frozen=True):
    """Nothing is being written."""


class Show(Message, frozen=True):
    """Display joints by name at a time."""

    joints: dict[str, float]
    time_us: int


class Status(Message, frozen=True):
    """How the cameras are; sent about once a second."""

    cameras: dict[str, CameraStatus]


class Problem(Message, frozen=True):
    """Something happened to a camera; sent at once."""

    problem: CameraProblem


Request = Open | Start | Stop | Discard | Show
Reply = Opened | Refusal | Started | Stopped | Discarded
News = Status | Problem

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answer_decoder: msgspec.msgpack.Decoder[Reply | News] = msgspec.msgpack.Decoder(Reply | News)


def packed(message: Message) -> bytes:
    """Return a message with its length before it."""
    data = _encoder.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def request(data: bytes) -> Request:
    """Return what the recorder asked for."""
    return _request_decoder.decode(data)


def answer(data: bytes) -> Reply | News:
    """Return what the camera process said."""
    return _answer_decoder.decode(data)
