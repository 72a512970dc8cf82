"""JPEG as cameras send it: the image inside a transfer buffer, its size, and the Huffman tables that many cameras leave out.

Pure: bytes in, bytes out. Motion JPEG permits a camera to send no Huffman tables; most decoders then take the standard
ones, others refuse the file. They are inserted here once, so that what is stored is a JPEG file for everybody.
Source: ITU-T T.81, annexes B (markers) and K.3 (typical tables).
"""

from __future__ import annotations

import msgspec

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_HUFFMAN_TABLES = 0xC4
_START_OF_SCAN = 0xDA
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {_HUFFMAN_TABLES, 0xC8, 0xCC}
_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})

# Each: class and id, the number of codes of each length 1..16, the values in order of their codes.
_STANDARD_TABLES = bytes.fromhex(
    "00 00010501010101010100000000000000 000102030405060708090a0b"
    "10 0002010303020403050504040000017d 01020300041105122131410613516107227114328191a1082342b1c11552d1f0"
    "2433627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a"
    "838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
    "e1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    "01 00030101010101010101010000000000 000102030405060708090a0b"
    "11 00020102040403040705040400010277 0001020311040521310612415107617113223281081442 91a1b1c109233352f0"
    "156272d10a162434e125f11718191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a"
    "82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
    "e2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
)
_STANDARD_SEGMENT = b"\xff\xc4" + (len(_STANDARD_TABLES) + 2).to_bytes(2, "big") + _STANDARD_TABLES


class Jpeg(msgspec.Struct, frozen=True):
    """One whole JPEG file and its size in pixels."""

    data: bytes
    width_px: int
    height_px: int


def whole_jpeg(buffer: bytes) -> Jpeg:
    """Return the JPEG file in a camera's buffer: without what lies behind its end, with Huffman tables.

    Args:
        buffer: what the camera sent.

    Raises:
        ValueError: what is wrong, as the second half of a sentence (``is cut off …``).
    """
    if not buffer.startswith(_START_OF_IMAGE):
        raise ValueError(f"is no JPEG image: it starts with {buffer[:4].hex(' ') or 'nothing'}, expected ff d8")
    (width, height), scan, has_tables = _walked(buffer)
    end = buffer.rfind(_END_OF_IMAGE, scan)
    if end < 0:
        raise ValueError(f"is cut off after {len(buffer)} bytes: the end-of-image marker is missing")
    if not width or not height:
        raise ValueError(f"is {width}x{height} pixels")
    data = buffer[: end + 2]
    if not has_tables:
        data = data[:scan] + _STANDARD_SEGMENT + data[scan:]
    return Jpeg(data, width, height)


def _walked(buffer: bytes) -> tuple[tuple[int, int], int, bool]:
    """Return size, position of the scan, and whether there are Huffman tables, from the segments before the scan."""
    size: tuple[int, int] | None = None
    has_tables = False
    position = 2
    while position + 10 <= len(buffer):
        if buffer[position] != 0xFF:
            raise ValueError(f"is damaged: byte {position} is {buffer[position]:#04x}, expected a marker (0xff)")
        marker = buffer[position + 1]
        if marker == 0xFF or marker in _STANDALONE_MARKERS:
            position += 1 if marker == 0xFF else 2
            continue
        if marker == _START_OF_SCAN and size:
            return size, position, has_tables
        if marker in _FRAME_MARKERS:
            size = _integer(buffer, position + 7), _integer(buffer, position + 5)
        has_tables |= marker == _HUFFMAN_TABLES
        position += 2 + _integer(buffer, position + 2)
    raise ValueError(f"is cut off or damaged: no frame header and scan in {len(buffer)} bytes")


def _integer(buffer: bytes, position: int) -> int:
    return int.from_bytes(buffer[position : position + 2], "big")
