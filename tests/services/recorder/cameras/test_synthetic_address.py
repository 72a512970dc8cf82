"""Addresses of synthetic cameras."""

import pytest

from services.recorder.cameras.synthetic_address import SyntheticCamera, synthetic_camera


def test_address_names_a_scene_and_its_faults() -> None:
    found = synthetic_camera("sim://left?stop_after_s=3&lose=0.01&size=320x240")

    assert found == SyntheticCamera(name="left", stop_after_s=3.0, lose=0.01, size="320x240")
    assert found.delivered_size((640, 480)) == (320, 240)
    assert synthetic_camera("sim://left").delivered_size((640, 480)) == (640, 480)


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("sim://", "has no name"),
        ("sim://left?loose=1", "unknown field `loose`.* known keys: size, stop_after_s"),
        ("sim://left?lose=2", "<= 1"),
        ("sim://left?size=big", "size"),
    ],
)
def test_wrong_address_is_refused_with_the_known_keys(address: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        synthetic_camera(address)
