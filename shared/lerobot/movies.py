"""The door to PyAV for finished videos: what an mp4 says of itself, and when its frames are shown.

Knows nothing of datasets. ``movie_problems`` compares a movie with what a dataset expects of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import BadDataset
from shared.lerobot import layout


class Movie(msgspec.Struct, frozen=True, kw_only=True):
    """The first video stream of a file.

    Attributes:
        height: in pixels.
        width: in pixels.
        codec: FFmpeg's name of the codec.
        pix_fmt: FFmpeg's name of the pixel format.
        fps: average rate in Hz, 0 if the file does not say.
        tick_s: the unit of ``pts`` in seconds.
        pts: presentation times in ticks, ascending, one per frame.
        num_streams: of the file, of any kind.
    """

    height: int
    width: int
    codec: str
    pix_fmt: str
    fps: Fraction
    tick_s: Fraction
    pts: tuple[int, ...]
    num_streams: int


def read_movie(path: Path, *, decode: bool = False) -> Movie:
    """Return what a video file says.

    Args:
        path: the mp4.
        decode: decode every frame and take its time, instead of reading the packets' times. Damage that is still a
            valid bit stream (most changed bytes inside a slice) cannot be seen this way: only a file hash shows it.

    Raises:
        BadDataset: the file is missing, is no video, or a frame does not decode.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadDataset(f"{path}: has no video stream; encode the episode again")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"err_detect": "explode"}  # otherwise a damaged frame is patched up in silence
            times = _decoded_times(container, stream) if decode else _packet_times(container, stream)
            return Movie(
                height=stream.codec_context.height,
                width=stream.codec_context.width,
                codec=stream.codec_context.codec.canonical_name,
                pix_fmt=stream.codec_context.pix_fmt or "",
                fps=Fraction(stream.average_rate or 0),
                tick_s=Fraction(stream.time_base or 1),
                pts=tuple(sorted(times)),
                num_streams=len(container.streams),
            )
    except (av.FFmpegError, OSError) as error:
        raise BadDataset(f"{path}: does not decode as a video ({error.strerror}); encode the episode again") from error


def read_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video in order, (H, W, 3) RGB.

    Raises:
        BadDataset: the file is missing, is no video, or a frame does not decode.
    """
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, OSError, IndexError) as error:
        raise BadDataset(f"{path}: does not decode as a video ({error}); encode the episode again") from error


def movie_problems(
    movie: Movie, *, num_frames: int, fps: int, height: int, width: int, codec: str | None, pix_fmt: str | None
) -> list[str]:
    """Return what is wrong with a movie of an episode, as sentences.

    Args:
        movie: what the file says.
        num_frames: rows of the episode.
        fps: of the dataset.
        height: in pixels, of info.json.
        width: in pixels, of info.json.
        codec: of info.json, None if it does not say.
        pix_fmt: of info.json, None if it does not say.
    """
    problems = []
    if len(movie.pts) != num_frames:
        problems.append(f"has {len(movie.pts)} frames, the episode has {num_frames} rows")
    if (movie.height, movie.width) != (height, width):
        problems.append(f"is {movie.width}x{movie.height}, info.json says {width}x{height}")
    if codec is not None and movie.codec != codec:
        problems.append(f"is {movie.codec}, info.json says {codec}")
    if pix_fmt is not None and movie.pix_fmt != pix_fmt:
        problems.append(f"is {movie.pix_fmt}, info.json says {pix_fmt}")
    if movie.num_streams != 1:
        problems.append(f"has {movie.num_streams} streams, expected the one video stream")
    if movie.fps and len(movie.pts) > 1 and abs(movie.fps - fps) > Fraction(fps, 1000):
        problems.append(f"runs at {float(movie.fps):g} fps, info.json says {fps}")
    return problems + _time_problems(movie, fps)


def _time_problems(movie: Movie, fps: int) -> list[str]:
    """Compare every time with i/fps: exact up to the rounding of the file's own clock, never beyond LeRobot's tolerance."""
    allowed = min(movie.tick_s / 2, Fraction(layout.TIMESTAMP_TOLERANCE_S))
    for index, pts in enumerate(movie.pts):
        if abs(pts * movie.tick_s - Fraction(index, fps)) > allowed:
            return [f"frame {index} is shown at {float(pts * movie.tick_s):.6f} s, expected {index}/{fps} = {index / fps:.6f} s"]
    return []


def _packet_times(container: Any, stream: Any) -> list[int]:
    return [packet.pts for packet in container.demux(stream) if packet.pts is not None and not packet.is_discard]


def _decoded_times(container: Any, stream: Any) -> list[int]:
    return [frame.pts for frame in container.decode(stream) if frame.pts is not None]
