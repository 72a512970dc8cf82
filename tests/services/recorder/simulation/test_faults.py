"""Faults as a person writes them."""

import pytest

from services.recorder.simulation.faults import Faults, faults_by_port, merged_faults
from shared.errors import BadConfig


def test_faults_are_read_by_port() -> None:
    found = faults_by_port("left_follower.missing=3, left_follower.echo,right_leader.slow=80.5,right_follower.unplug=2")

    assert found == {
        "left_follower": Faults(missing=3, echo=True),
        "right_leader": Faults(slow=80.5),
        "right_follower": Faults(unplug=2.0),
    }
    assert merged_faults(["left_leader.corrupt=9", "left_leader.silence=0"]) == {"left_leader": Faults(corrupt=9, silence=0.0)}
    assert merged_faults([]) == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("middle.slow=1", "unknown port 'middle', expected one of left_follower"),
        ("left_leader.tired=1", "unknown fault 'tired', expected one of missing"),
        ("left_leader.slow=very", "expected a number"),
        ("left_leader.missing", "expected a number"),
    ],
)
def test_what_is_no_fault_is_refused(text: str, problem: str) -> None:
    with pytest.raises(BadConfig, match=problem):
        faults_by_port(text)
