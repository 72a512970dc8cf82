"""A JPEG is refused by what its header says, before a decoder sees it."""

from __future__ import annotations

import pytest

from services.converter.jpeg import JpegHeader, read_header
from tests.services.converter.episodes import jpeg


def with_size(width: int, height: int) -> bytes:
    data = bytearray(jpeg(1))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_size_and_components_of_a_colour_image_are_read() -> None:
    assert read_header(jpeg(1, width=64, height=48)) == JpegHeader(width_px=64, height_px=48, num_components=3)


def test_a_grey_image_is_accepted() -> None:
    assert read_header(jpeg(1, grey=True)).num_components == 1


def test_padding_after_the_end_of_image_marker_is_accepted() -> None:
    assert read_header(jpeg(1) + b"\0" * 8).width_px == 64


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "is no JPEG image: it starts with 89 50 4e 47"),
        (jpeg(1)[: len(jpeg(1)) // 2], r"is cut off after \d+ bytes: the end-of-image marker is missing"),
        (jpeg(1)[:20], "is cut off or damaged: no frame header in 20 bytes"),
        (b"\xff\xd8\x00\x00\x00\x00", "is damaged: byte 2 is 0x00, expected a marker"),
        (with_size(20_000, 20_000), "claims 20000x20000 pixels, the limit is"),
        (with_size(16_000, 16_000), "claims 16000x16000 pixels, the limit is"),
        (with_size(0, 48), "is 0x48 pixels, expected at least 2x2"),
        (with_size(63, 48), "is 63x48 pixels, expected even sides"),
    ],
)
def test_a_bad_image_is_refused_with_what_is_wrong(data: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_header(data)


def test_a_cmyk_image_is_refused() -> None:
    data = bytearray(jpeg(1))
    data[data.index(b"\xff\xc0") + 9] = 4

    with pytest.raises(ValueError, match="has 4 colour components"):
        read_header(bytes(data))
