"""What the address of a synthetic camera asks for: ``sim://NAME?lose=0.01&stop_after_s=3``. Pure."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

import msgspec

from services.recorder.cameras.options import SIMULATED

ABSENT = "absent"
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class SyntheticCamera(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A synthetic camera and its faults; the default is none.

    Args:
        name: chooses the scene; ``absent`` is not there.
        size: ``WIDTHxHEIGHT`` that it delivers whatever it is asked for.
        stop_after_s: from then on it is silent.
        unplug_after_s: from then on it is gone.
        back_after_s: how long it is silent or gone; None: for good.
        lose: share of the frames that never come.
        damage: share of the frames that arrive cut off.
        freeze_after_s: from then on every frame is the same.
        jitter_ms: how far a frame is from its time at most.
    """

    name: str
    size: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,5}x[0-9]{1,5}\Z")] | None = None
    stop_after_s: _Seconds | None = None
    unplug_after_s: _Seconds | None = None
    back_after_s: _Seconds | None = None
    lose: _Share = 0.0
    damage: _Share = 0.0
    freeze_after_s: _Seconds | None = None
    jitter_ms: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0

    def delivered_size(self, asked: tuple[int, int]) -> tuple[int, int]:
        """Return width and height in pixels of what it delivers."""
        if self.size is None:
            return asked
        width, _, height = self.size.partition("x")
        return int(width), int(height)


def synthetic_camera(address: str) -> SyntheticCamera:
    """Return what an address ``sim://NAME?KEY=VALUE&…`` asks for.

    Raises:
        ValueError: no name, an unknown key or a wrong value, as the second half of a sentence.
    """
    parts = urlsplit(address)
    name = parts.netloc + parts.path
    if not name:
        raise ValueError(f"has no name, expected {SIMULATED}NAME")
    try:
        return msgspec.convert({"name": name, **dict(parse_qsl(parts.query, keep_blank_values=True))}, SyntheticCamera, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(SyntheticCamera.__struct_fields__[1:])
        raise ValueError(f"is no synthetic camera: {error}; known keys: {known}") from error
