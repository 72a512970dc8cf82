"""What a JPEG file says about itself before anybody decodes it: size and components, truncation, absurd headers.

Pure: bytes in, a header out. A decoder allocates what a header asks for and conceals what is cut off, so both are
settled here first. Source: ITU-T T.81, annex B (markers), and JFIF 1.02.
"""

from __future__ import annotations

import msgspec

MAX_SIDE_PX = 16_384
MAX_AREA_PX = 64 * 1024 * 1024
"""Images above these bounds are refused before a decoder allocates them."""

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})


class JpegHeader(msgspec.Struct, frozen=True):
    """Width and height in pixels and the number of colour components (1 grey, 3 YCbCr, 4 CMYK)."""

    width_px: int
    height_px: int
    num_components: int


def read_header(data: bytes) -> JpegHeader:
    """Return the header of a whole baseline or progressive JPEG.

    Args:
        data: the file's bytes.

    Raises:
        ValueError: what is wrong, as the second half of a sentence (``is empty``, ``is cut off …``).
    """
    if not data:
        raise ValueError("is empty (0 bytes), expected a JPEG image")
    if not data.startswith(_START_OF_IMAGE):
        raise ValueError(f"is no JPEG image: it starts with {data[:4].hex(' ')}, expected ff d8")
    header = _frame_header(data)
    if data[-2:] != _END_OF_IMAGE and _END_OF_IMAGE not in data[-64:]:
        raise ValueError(f"is cut off after {len(data)} bytes: the end-of-image marker is missing")
    return _bounded(header)


def _frame_header(data: bytes) -> JpegHeader:
    """Walk the segments up to the first frame header."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise ValueError(f"is damaged: byte {position} is {data[position]:#04x}, expected a marker (0xff)")
        marker = data[position + 1]
        if marker == 0xFF or marker in _STANDALONE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _FRAME_MARKERS and position + 10 <= len(data):
            return JpegHeader(
                width_px=int.from_bytes(data[position + 7 : position + 9], "big"),
                height_px=int.from_bytes(data[position + 5 : position + 7], "big"),
                num_components=data[position + 9],
            )
        if marker == _START_OF_SCAN:
            break
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise ValueError(f"is cut off or damaged: no frame header in {len(data)} bytes")


def _bounded(header: JpegHeader) -> JpegHeader:
    width, height = header.width_px, header.height_px
    if width == 0 or height == 0:
        raise ValueError(f"is {width}x{height} pixels, expected at least 2x2")
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX or width * height > MAX_AREA_PX:
        raise ValueError(f"claims {width}x{height} pixels, the limit is {MAX_SIDE_PX} a side and {MAX_AREA_PX} in all")
    if width % 2 or height % 2:
        raise ValueError(
            f"is {width}x{height} pixels, expected even sides: yuv420p video has one colour sample for 2x2 pixels; crop the camera by one"
        )
    if header.num_components not in {1, 3}:
        raise ValueError(f"has {header.num_components} colour components (CMYK?), expected 3 (YCbCr) or 1 (grey)")
    return header
