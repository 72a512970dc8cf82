"""JPEG in, video out: the converter's door to PyAV. One writer per camera, one encoder thread each.

A camera's JPEG is decoded once, straight to its own YCbCr planes. JPEG uses the full range 0..255, video the limited
range (16..235 luma, 16..240 chroma): one linear map per plane converts it, exactly rounded, at a fraction of the cost of
a general colour conversion and without the round trip through RGB that shifts colours by 2 to 3 levels. The stream is
tagged as what it is: BT.601 coefficients, limited range, so that every player shows the colours of the JPEG.

Bytes are reproducible: a pinned number of encoder threads, no wall clock and no library version in the container.
Presentation times are the row index in a time base of 1/fps: exactly i/fps.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av
import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from services.converter import jpeg
from shared.config import VideoConfig
from shared.errors import BadConfig

ENCODER_BY_CODEC = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_SINGLE_THREAD = {
    "h264": {},
    "hevc": {"x265-params": "pools=1:frame-threads=1:log-level=error"},
    "av1": {"svtav1-params": "lp=1"},
}
_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_AV1_PRESETS = tuple(str(number) for number in range(14))
_BT601 = 6  # SMPTE 170M in AVColorSpace, AVColorPrimaries and AVColorTransferCharacteristic
_LIMITED_RANGE = 1  # AVCOL_RANGE_MPEG

_LUMA = (219 / 255, 16.0)
_CHROMA = (224 / 255, 128 - 128 * 224 / 255)
"""Factor and offset from full to limited range: 0..255 becomes 16..235, and 16..240 around 128."""


def software() -> dict[str, object]:
    """Return the versions of what decides a video's bytes."""
    libraries = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    return {"opencv": cv2.__version__, "av": av.__version__, "libraries": libraries}


class JpegDecoder:
    """Decodes the JPEG files of one camera to limited-range yuv420p frames; not for use by two threads."""

    def __init__(self) -> None:
        self._codec: Any = av.CodecContext.create("mjpeg", "r")
        self._codec.thread_count = 1
        self._codec.options = {"err_detect": "explode"}

    def decode(self, data: bytes) -> VideoFrame:
        """Return the image in ``data``, (H, W) yuv420p, limited range.

        Raises:
            ValueError: what is wrong with the image, as the second half of a sentence.
        """
        jpeg.read_header(data)
        try:
            frames = self._codec.decode(av.Packet(data))
        except av.error.FFmpegError as error:
            raise ValueError(f"does not decode as JPEG: {error.strerror}") from error
        if len(frames) != 1:
            raise ValueError(f"does not decode as JPEG: {len(frames)} images in it, expected 1")
        full_range = frames[0]
        if full_range.format.name != "yuvj420p":
            full_range = full_range.reformat(format="yuvj420p", src_color_range="JPEG", dst_color_range="JPEG")
        return limited_range(full_range)


def limited_range(frame: VideoFrame) -> VideoFrame:
    """Return a full-range yuvj420p frame as limited-range yuv420p: luma 16..235, chroma 16..240, correctly rounded."""
    result = VideoFrame(frame.width, frame.height, "yuv420p")
    for (factor, offset), source, target in zip((_LUMA, _CHROMA, _CHROMA), frame.planes, result.planes, strict=True):
        cv2.convertScaleAbs(_pixels(source), _pixels(target), factor, offset)
    return result


def bgr_image(data: bytes) -> NDArray[np.uint8]:
    """Return a JPEG that has decoded before as (H, W, 3) uint8 BGR, as any image library shows it (for statistics)."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError("does not decode as JPEG")
    return image  # type: ignore[return-value]


def _pixels(plane: Any) -> NDArray[np.uint8]:
    """View a plane without its padding, (H, W) uint8."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def check_settings(config: VideoConfig) -> None:
    """Refuse what the configured encoder does not know.

    Raises:
        BadConfig: the preset or crf is none of the encoder's.
    """
    presets, max_crf = (_AV1_PRESETS, 63) if config.codec == "av1" else (_X26X_PRESETS, 51)
    if config.preset not in presets:
        raise BadConfig("video", "preset", f"{config.codec} has no preset {config.preset!r}, expected one of {', '.join(presets)}")
    if config.crf > max_crf:
        raise BadConfig("video", "crf", f"is {config.crf}, {config.codec} takes 0 to {max_crf}")


class VideoWriter:
    """Writes frames to one mp4 file, frame i at presentation time i/fps.

    Args:
        path: the file; its folder exists.
        width_px, height_px: size of every frame, even.
        fps: frames per second.
        config: codec, crf, preset, keyframe distance.

    Raises:
        BadConfig: the encoder does not know the preset or crf.
        RuntimeError: the encoder cannot be opened.
    """

    def __init__(self, path: Path, *, width_px: int, height_px: int, fps: int, config: VideoConfig) -> None:
        check_settings(config)
        self._container = av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"})
        stream = cast(Any, self._container).add_stream(ENCODER_BY_CODEC[config.codec], rate=fps)
        codec = stream.codec_context
        stream.time_base = Fraction(1, fps)
        codec.width, codec.height, codec.pix_fmt = width_px, height_px, "yuv420p"
        codec.time_base = Fraction(1, fps)
        codec.thread_count = 1
        codec.gop_size = config.gop or fps
        codec.color_range, codec.colorspace = _LIMITED_RANGE, _BT601
        codec.color_primaries, codec.color_trc = _BT601, _BT601
        codec.options = {"preset": config.preset, "crf": str(config.crf), **_SINGLE_THREAD[config.codec]}
        self._stream, self._time_base, self._num_frames = stream, Fraction(1, fps), 0
        try:
            codec.open()
        except av.error.FFmpegError as error:
            self._container.close()
            # Its settings were checked: what is left is the host (memory, most likely), and not the episode's fault.
            raise RuntimeError(f"the encoder {ENCODER_BY_CODEC[config.codec]} cannot be opened: {error.strerror}") from error

    def __enter__(self) -> VideoWriter:
        return self

    def write(self, frame: VideoFrame) -> None:
        """Append one frame of the writer's size."""
        frame.pts = self._num_frames
        frame.time_base = self._time_base
        self._num_frames += 1
        self._container.mux(self._stream.encode(frame))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
