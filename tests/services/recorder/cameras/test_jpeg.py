"""JPEG as cameras send it."""

import numpy as np
import pytest

from services.recorder.cameras.jpeg import whole_jpeg
from services.recorder.cameras.opencv import encoded
from tests.services.recorder.cameras.scenes import HEIGHT, WIDTH, decoded, scene, without_tables

WHOLE = encoded(scene(0))


def test_a_whole_jpeg_is_kept_byte_for_byte() -> None:
    found = whole_jpeg(WHOLE)

    assert (found.data, found.width_px, found.height_px) == (WHOLE, WIDTH, HEIGHT)


def test_what_lies_behind_the_end_of_a_transfer_buffer_is_cut() -> None:
    assert whole_jpeg(WHOLE + bytes(1000)).data == WHOLE


def test_missing_huffman_tables_are_inserted_once() -> None:
    bare = without_tables(WHOLE)
    assert b"\xff\xc4" not in bare

    found = whole_jpeg(bare).data

    assert found.count(b"\xff\xc4") == 1
    assert whole_jpeg(found).data == found
    assert np.array_equal(decoded(found), decoded(WHOLE))


def test_inserted_tables_are_those_that_an_encoder_writes() -> None:
    segment = whole_jpeg(without_tables(WHOLE)).data.partition(b"\xff\xc4")[2]
    written, rest = b"", WHOLE
    while b"\xff\xc4" in rest:
        rest = rest.partition(b"\xff\xc4")[2]
        written += rest[2 : int.from_bytes(rest[:2], "big")]

    assert segment[2 : int.from_bytes(segment[:2], "big")] == written


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it starts with nothing"),
        (b"YUYV" * 10, "it starts with 59 55 59 56"),
        (WHOLE[:-3], "is cut off after"),
        (WHOLE[:30], "no frame header and scan"),
        (WHOLE[:20] + b"\x00" + WHOLE[21:], "is damaged: byte 20 is 0x00"),
        (WHOLE.replace(bytes([0, HEIGHT, 0, WIDTH]), bytes(4)), "is 0x0 pixels"),
    ],
)
def test_what_is_no_whole_jpeg_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        whole_jpeg(data)


def test_any_cut_of_a_jpeg_is_refused_and_never_crashes() -> None:
    for end in range(len(WHOLE) - 1):
        with pytest.raises(ValueError, match="is "):
            whole_jpeg(WHOLE[:end])
