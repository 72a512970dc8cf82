"""Defective images: one frame of the base camera, or all frames of a camera."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tests.corpus.cases import Corpus
from tests.services.converter.episodes import jpeg

IMAGES = Corpus("Images")
BAD_US = 1_700_000_000_210_000
BAD = f"images/cam_base/{BAD_US}.jpg"
_FRAME_HEADER = b"\xff\xc0"


def replace(folder: Path, data: bytes) -> None:
    """Put other bytes in the place of one frame."""
    (folder / BAD).write_bytes(data)


def replace_all(folder: Path, data: bytes) -> None:
    """Put other bytes in the place of every frame of the side camera."""
    for path in (folder / "images/cam_side").iterdir():
        path.write_bytes(data)


def with_header(data: bytes, *, width: int | None = None, height: int | None = None, marker: int | None = None) -> bytes:
    """Return a JPEG whose header says something else."""
    changed = bytearray(data)
    at = changed.index(_FRAME_HEADER)
    changed[at + 1] = marker or changed[at + 1]
    if height is not None:
        changed[at + 5 : at + 7] = height.to_bytes(2, "big")
    if width is not None:
        changed[at + 7 : at + 9] = width.to_bytes(2, "big")
    return bytes(changed)


def in_format(pixels: str, **options: str) -> bytes:
    """Return a picture as ffmpeg encodes it in a pixel format."""
    encoder: Any = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, pixels, Fraction(1, 25)
    encoder.color_range, encoder.options = 2, options
    rows, columns = np.mgrid[0:48, 0:64]
    image = np.stack([columns * 2 + 60, rows * 2 + 50, np.full(rows.shape, 120)], axis=2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixels, dst_color_range="JPEG")
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def progressive() -> bytes:
    """Return a progressive JPEG."""
    image = cv2.imdecode(np.frombuffer(jpeg(5), np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()  # type: ignore[arg-type]


def rotated() -> bytes:
    """Return a JPEG whose EXIF header asks to be shown rotated by a quarter."""
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    data = jpeg(5)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def cmyk() -> bytes:
    """Return a JPEG whose header names four components, as a CMYK image does."""
    data = bytearray(jpeg(1))
    data[data.index(_FRAME_HEADER) + 9] = 4
    return bytes(data)


@IMAGES.refused(f"{BAD}: is empty (0 bytes), expected a JPEG image")
def image_empty(folder: Path) -> None:
    """An empty image."""
    replace(folder, b"")


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is cut off after 448 bytes: the end-of-image marker is missing")
def image_truncated(folder: Path) -> None:
    """An image cut off in the middle."""
    replace(folder, jpeg(5)[: len(jpeg(5)) // 2])


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is cut off or damaged: no frame header in 20 bytes")
def image_cut_in_header(folder: Path) -> None:
    """An image cut off before its size."""
    replace(folder, jpeg(5)[:20])


@IMAGES.refused("images/cam_base/1700000000210000.jpg: does not decode as JPEG: Invalid data found when processing input")
def image_scan_cut_out(folder: Path) -> None:
    """An image whose second half is missing though its end marker is there."""
    data = jpeg(5)
    scan = data.index(b"\xff\xda")
    replace(folder, data[: scan + (len(data) - scan) // 3] + data[-2:])


@IMAGES.refused("images/cam_base/1700000000210000.jpg: does not decode as JPEG: Invalid data found when processing input")
def image_scan_overwritten(folder: Path) -> None:
    """An image whose compressed data is overwritten."""
    data = bytearray(jpeg(5))
    scan = data.index(b"\xff\xda") + 20
    data[scan:-2] = bytes(index * 37 % 255 for index in range(len(data) - 2 - scan))
    replace(folder, bytes(data))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: does not decode as JPEG: Invalid data found when processing input")
def image_header_lies(folder: Path) -> None:
    """A header of 64x96 pixels over data of 64x48."""
    replace(folder, with_header(jpeg(5), height=96))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is 32x16 pixels, the frames before are 64x48")
def image_header_lies_small(folder: Path) -> None:
    """A header of 32x16 pixels over data of 64x48."""
    replace(folder, with_header(jpeg(5), width=32, height=16))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: claims 20000x20000 pixels, the limit is 16384 a side and 67108864 in all")
def image_absurd_header(folder: Path) -> None:
    """A header of 20,000 x 20,000 pixels."""
    replace(folder, with_header(jpeg(5), width=20_000, height=20_000))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is 0x48 pixels, expected at least 2x2")
def image_zero_size(folder: Path) -> None:
    """A header of 0 x 48 pixels."""
    replace(folder, with_header(jpeg(5), width=0))


@IMAGES.refused(
    "images/cam_base/1700000000210000.jpg: is 63x48 pixels, expected even sides: yuv420p video has one "
    "colour sample for 2x2 pixels; crop the camera by one"
)
def image_odd_size(folder: Path) -> None:
    """An image of 63x48 pixels."""
    replace(folder, jpeg(5, width=63))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is 32x16 pixels, the frames before are 64x48")
def image_other_resolution(folder: Path) -> None:
    """Two resolutions in one camera."""
    replace(folder, jpeg(5, width=32, height=16))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: has 4 colour components (CMYK?), expected 3 (YCbCr) or 1 (grey)")
def image_cmyk(folder: Path) -> None:
    """A CMYK image."""
    replace(folder, cmyk())


@IMAGES.refused("images/cam_base/1700000000210000.jpg: does not decode as JPEG: Invalid data found when processing input")
def image_lossless(folder: Path) -> None:
    """A header of lossless JPEG over ordinary data."""
    replace(folder, with_header(jpeg(5), marker=0xC3))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: does not decode as JPEG: Invalid data found when processing input")
def image_arithmetic(folder: Path) -> None:
    """A header of arithmetic coding, which no camera uses."""
    replace(folder, with_header(jpeg(5), marker=0xC9))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is no JPEG image: it starts with 89 50 4e 47, expected ff d8")
def image_png_16_bit(folder: Path) -> None:
    """A 16-bit PNG named .jpg."""
    replace(folder, cv2.imencode(".png", np.full((48, 64), 40_000, np.uint16))[1].tobytes())


@IMAGES.works()
def image_two_in_one_file(folder: Path) -> None:
    """Two JPEG images in one file: the first counts, in video and statistics."""
    replace_all(folder, jpeg(5) + jpeg(90))


@IMAGES.refused("images/cam_base/1700000000210000.jpg: has 8589934592 bytes, the limit is 67108864")
def image_huge_file(folder: Path) -> None:
    """A file of 8 GiB."""
    with (folder / BAD).open("wb") as file:
        file.truncate(8 * 1024**3)


@IMAGES.refused("images/cam_base/1700000000210000.jpg: is no JPEG image: it starts with 00 00 00 00, expected ff d8")
def image_nothing_but_zeros(folder: Path) -> None:
    """A file of zeros, as a power cut leaves it."""
    replace(folder, bytes(900))


@IMAGES.works()
def image_grey(folder: Path) -> None:
    """Grey images."""
    replace_all(folder, jpeg(5, grey=True))


@IMAGES.works()
def image_progressive(folder: Path) -> None:
    """Progressive images."""
    replace_all(folder, progressive())


@IMAGES.works()
def image_422(folder: Path) -> None:
    """Images with half the colour (4:2:2)."""
    replace_all(folder, in_format("yuvj422p"))


@IMAGES.works()
def image_444(folder: Path) -> None:
    """Images with full colour (4:4:4)."""
    replace_all(folder, in_format("yuvj444p"))


@IMAGES.works()
def image_exif_rotated(folder: Path) -> None:
    """Images that EXIF would rotate: the pixels stay as stored, in video and statistics."""
    replace_all(folder, rotated())
