"""The vocabulary of raw episodes: frame names and arm files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.episode import ArmConfig, frame_timestamp_us


@given(st.integers(0, 10**18 - 1))
def test_a_frame_is_named_by_its_microseconds(time_us: int) -> None:
    assert frame_timestamp_us(f"{time_us}.jpg") == time_us


@pytest.mark.parametrize(("name", "expected"), [("7.JPG", 7), ("7.jpeg", 7), ("007.jpg", 7), ("7.JpEg", 7)])
def test_suffixes_of_any_case_and_leading_zeros_are_accepted(name: str, expected: int) -> None:
    assert frame_timestamp_us(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".jpg",
        "7",
        "7.png",
        "-7.jpg",
        "+7.jpg",
        "7.0.jpg",
        " 7.jpg",
        "7.jpg ",
        "7.jpg\n",
        "1_0.jpg",
        "a/7.jpg",
        "7\u0662.jpg",
        "1" * 19 + ".jpg",
    ],
)
def test_other_names_are_no_timestamps(name: str) -> None:
    assert frame_timestamp_us(name) is None


def test_an_arms_file_is_its_name_unless_given() -> None:
    assert ArmConfig(name="left", role="slave").file_name == "left.parquet"
    assert ArmConfig(name="left", role="slave", file="l.pq").file_name == "l.pq"
