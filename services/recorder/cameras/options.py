"""What `--robot.cameras` says about one camera: LeRobot's own option names, checked before anything is opened. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

SIMULATED = "sim://"
"""How the address of a synthetic camera begins."""

SUPPORTED_TYPES = ("opencv",)
_DEVICE = re.compile(r"^/dev/video[0-9]+\Z")
_SIDE = msgspec.Meta(ge=2, le=16_384)


class CameraOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One camera as LeRobot 0.3.3 describes it.

    Args:
        type: ``opencv``; others are refused.
        index_or_path: number of a video device, its path, a file or URL that OpenCV opens, or ``sim://NAME``.
        width: of the stored image in pixels, after the rotation.
        height: of the stored image in pixels, after the rotation.
        fps: frames per second.
        color_mode: ``rgb``; a JPEG file has its own order of colours.
        rotation: clockwise, in degrees; -90 and 270 are the same.
        warmup_s: how long a camera runs before its frames count: exposure and white balance settle.

    Raises:
        ValueError: a type, colour mode or size that is not supported.
    """

    type: str
    index_or_path: int | str
    width: Annotated[int, _SIDE]
    height: Annotated[int, _SIDE]
    fps: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    color_mode: str = "rgb"
    rotation: Literal[-90, 0, 90, 180, 270] = 0
    warmup_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 1.0

    def __post_init__(self) -> None:
        if self.type not in SUPPORTED_TYPES:
            raise ValueError(f"camera type {self.type!r} is not supported, expected one of: {', '.join(SUPPORTED_TYPES)}")
        if self.color_mode != "rgb":
            raise ValueError(
                f"color_mode is {self.color_mode!r}, expected 'rgb': frames are kept as JPEG, which has its own order of colours"
            )
        if self.width % 2 or self.height % 2:
            raise ValueError(f"is {self.width}x{self.height} pixels, expected even sides: video has one colour sample for 2x2 pixels")
        if isinstance(self.index_or_path, int) and self.index_or_path < 0:
            raise ValueError(f"index_or_path is {self.index_or_path}, expected 0 or more, a path, or {SIMULATED}NAME")

    @property
    def is_simulated(self) -> bool:
        """Whether the frames are synthetic."""
        return isinstance(self.index_or_path, str) and self.index_or_path.startswith(SIMULATED)

    @property
    def device_path(self) -> str | None:
        """The path of the video device, or None for a file, a URL or a synthetic camera."""
        if isinstance(self.index_or_path, int) or self.index_or_path.isdecimal():
            return f"/dev/video{int(self.index_or_path)}"
        if _DEVICE.match(self.index_or_path) or self.index_or_path.startswith("/dev/v4l/"):
            return self.index_or_path
        return None

    @property
    def capture_size(self) -> tuple[int, int]:
        """Width and height in pixels that the camera is asked for, before the rotation."""
        return (self.height, self.width) if self.rotation in {90, -90, 270} else (self.width, self.height)

    @property
    def period_s(self) -> float:
        """The time from one frame to the next in seconds."""
        return 1.0 / self.fps
