"""All cameras of an episode become videos: one thread per camera, frames streamed, hashed and sampled on the way.

A camera's files are read once, in time order. Frames that no row shows are only hashed, so that the manifest covers the
whole raw episode; a frame that several rows show is decoded once. Memory does not grow with the episode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.converter.raw import CameraFrames
from services.converter.video import JpegDecoder, VideoWriter, bgr_image
from shared.config import VideoConfig
from shared.errors import BadRaw
from shared.lerobot.stats import ImageStats, sample_indices

D = TypeVar("D")


class EncodedCamera(msgspec.Struct, frozen=True, kw_only=True):
    """A finished video.

    Attributes:
        width_px, height_px: its size.
        stats: statistics of its source images.
        names: (S,) bytes, every raw file of the camera.
        sha256: their digests, 32 bytes each, in the same order.
    """

    width_px: int
    height_px: int
    stats: ImageStats
    names: NDArray[np.bytes_]
    sha256: bytes

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of every raw file in hexadecimal, by name; made when asked, for it is large."""
        return {name.decode(): self.sha256[32 * index : 32 * index + 32].hex() for index, name in enumerate(self.names)}


class CameraJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one camera's thread does: row i of the video at ``path`` shows frame ``indices[i]`` ((N,), not decreasing)."""

    frames: CameraFrames
    indices: NDArray[np.int64]
    path: Path
    fps: int
    video: VideoConfig


def encode_cameras(jobs: Mapping[str, CameraJob], on_frames: Callable[[int], None]) -> dict[str, EncodedCamera]:
    """Encode every camera at once.

    Args:
        jobs: by camera.
        on_frames: called from the threads with how many more frames are encoded.

    Raises:
        BadRaw: an image is empty, cut off, damaged, of an absurd or odd size, or of another size than the first.
        BadConfig: the encoder refuses its settings.
    """
    stopped = Event()
    with ThreadPoolExecutor(len(jobs), thread_name_prefix="camera") as threads:
        futures = {camera: threads.submit(_encode, job, on_frames, stopped) for camera, job in jobs.items()}
        done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            stopped.set()
    errors = [error for future in futures.values() if (error := future.exception()) and not isinstance(error, CancelledError)]
    if errors:
        raise errors[0]
    return {camera: future.result() for camera, future in futures.items()}


def _encode(job: CameraJob, on_frames: Callable[[int], None], stopped: Event) -> EncodedCamera:
    reader, decoder, stats = _FrameReader(job.frames), JpegDecoder(), ImageStats()
    shown = int(job.indices[0])
    data = reader.read(shown)
    image = _translated(decoder.decode, data, job.frames, shown)
    width_px, height_px = image.width, image.height
    sampled = set(sample_indices(len(job.indices)))
    with VideoWriter(job.path, width_px=width_px, height_px=height_px, fps=job.fps, config=job.video) as writer:
        for row, index in enumerate(job.indices.tolist()):
            if stopped.is_set():
                raise CancelledError
            if index != shown:
                shown, data = index, reader.read(index)
                image = _translated(decoder.decode, data, job.frames, index)
                if (image.width, image.height) != (width_px, height_px):
                    raise _bad(job.frames, index, f"is {image.width}x{image.height} pixels, the frames before are {width_px}x{height_px}")
            if row in sampled:
                stats.add(_translated(bgr_image, data, job.frames, index), bgr=True)
            writer.write(image)
            on_frames(1)
    reader.finish()
    return EncodedCamera(width_px=width_px, height_px=height_px, stats=stats, names=job.frames.names, sha256=bytes(reader.sha256))


def _translated(decode: Callable[[bytes], D], data: bytes, frames: CameraFrames, index: int) -> D:
    try:
        return decode(data)
    except ValueError as error:
        raise _bad(frames, index, str(error)) from error


def _bad(frames: CameraFrames, index: int, problem: str) -> BadRaw:
    return BadRaw(f"images/{frames.camera}/{frames.path(index).name}", problem)


class _FrameReader:
    """Reads the frames that are asked for, in order, and hashes every file it passes."""

    def __init__(self, frames: CameraFrames) -> None:
        self._frames = frames
        self._next = 0
        self.sha256 = bytearray()

    def read(self, index: int) -> bytes:
        """Return the bytes of a frame, after hashing those before it."""
        while self._next < index:
            self._hashed(self._next)
        return self._hashed(index)

    def finish(self) -> None:
        """Hash the rest."""
        while self._next < len(self._frames.names):
            self._hashed(self._next)

    def _hashed(self, index: int) -> bytes:
        data = self._frames.read(index)
        self.sha256 += hashlib.sha256(data).digest()
        self._next = index + 1
        return data
