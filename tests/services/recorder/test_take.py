"""What one episode leaves: its name, and what makes it worth a second look."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest

from services.recorder.cameras.reports import CameraReport
from services.recorder.joints import ArmRecording, JointRecording
from services.recorder.take import Take, doubts, metadata, new_episode_id
from services.recorder.timing import LoopReport, Percentiles
from shared.events import NAME_PATTERN, EpisodeReady
from tests.services.recorder.arrangements import options

GOOD = CameraReport(
    num_frames=300, first_us=1, last_us=2, num_late=0, longest_gap_ms=34.0, num_lost=0, num_damaged=0, num_repeated=0, measured_fps=30.0,
    problem=None,
)  # fmt: skip
LATENESS = Percentiles(p50_us=50, p95_us=100, p99_us=200, max_us=900)
LOOP = LoopReport(
    wanted_rate_hz=200.0, measured_rate_hz=199.9, num_ticks=2000, num_missed=0, num_late_2_periods=0, lateness=LATENESS, longest_gap_ms=6.0,
    num_clipped=0, num_samples_by_arm={}, bus_errors_by_arm={},
)  # fmt: skip


def cameras(**changes: Any) -> dict[str, CameraReport]:
    return {"left": msgspec.structs.replace(GOOD, **changes), "front": msgspec.structs.replace(GOOD, measured_fps=25.0)}


def joints(**changes: Any) -> JointRecording:
    arm = ArmRecording(joint_names=("a",), times_us=np.arange(3), values=np.zeros((3, 1)))
    return JointRecording(arms={"left_slave": arm}, report=msgspec.structs.replace(LOOP, **changes))


def take(**changes: Any) -> Take:
    event = EpisodeReady(episode_id="e1", source="robot", task="Stack.", dataset="lab/blocks")
    return Take(number=3, event=event, joints=joints(), cameras=cameras(**changes), problems=("left is gone",), begun_us=5, ended_us=9)


def test_a_sound_episode_raises_no_doubt() -> None:
    assert list(doubts(options(), joints(longest_gap_ms=100.0), cameras())) == []


@pytest.mark.parametrize(
    ("loop", "camera", "sentence"),
    [
        ({}, {"problem": "camera left: no frame for 1 s"}, "camera left: no frame for 1 s"),
        ({}, {"measured_fps": 14.9}, "camera left: delivered 14.9 frames per second, expected 30: more light?"),
        ({}, {"num_lost": 2}, "camera left: 2 frames could not be written: is the disk fast enough?"),
        ({}, {"num_repeated": 200}, "camera left: 200 of 300 frames are those before them: is it frozen?"),
        ({"measured_rate_hz": 120.0}, {}, "the arms were sampled 120 times a second, expected 200: is the host busy, or a cable loose?"),
        (
            {"longest_gap_ms": 1003.4},
            {},
            "an arm did not answer for 1003 ms, at most 100 expected: rows repeat its last position, or end there; is a cable loose?",
        ),
    ],
)
def test_what_is_doubtful_is_said(loop: dict[str, Any], camera: dict[str, Any], sentence: str) -> None:
    assert list(doubts(options(), joints(**loop), cameras(**camera))) == [sentence]


@pytest.mark.parametrize("span", [slice(None, 50), slice(50, None)])
def test_an_arm_that_ends_before_the_others_or_begins_after_them_is_doubtful(span: slice) -> None:
    times_us = np.arange(100, dtype=np.int64) * 5000
    arms = {
        name: ArmRecording(joint_names=("a",), times_us=times, values=np.zeros((len(times), 1)))
        for name, times in (("left_slave", times_us), ("right_slave", times_us[span]))
    }
    (doubt,) = doubts(options(), msgspec.structs.replace(joints(), arms=arms), cameras())

    assert doubt.startswith("an arm did not answer for 250 ms, at most 100 expected")


@pytest.mark.parametrize("robot_id", ["white", "my robot/№ 1", "---", "x" * 300])
def test_an_episodes_name_fits_paths_and_subjects_and_is_new_every_time(robot_id: str) -> None:
    names = {new_episode_id(options(robot__id=robot_id), number_s=1_764_564_821.5) for _ in range(50)}

    assert len(names) == 50
    assert all(re.match(NAME_PATTERN, name) for name in names)
    assert all("_20251201T045341_" in name for name in names)


def test_an_episode_without_a_frame_or_a_position_is_missing_something() -> None:
    nothing = msgspec.structs.replace(
        joints(), arms={"left_slave": ArmRecording(joint_names=("a",), times_us=np.arange(0), values=np.zeros((0, 1)))}
    )

    assert take().missing is None
    assert take(num_frames=0).missing == "no frame came from left"
    assert msgspec.structs.replace(take(), joints=nothing).missing == "no position came from left_slave"


def test_the_metadata_say_what_was_recorded_and_how_well() -> None:
    found = metadata(options(), take())

    assert (found["task"], found["dataset"], found["episode_number"], found["fps"]) == ("Stack.", "lab/blocks", 3, 30)
    assert found["joint_names"]["left_master"][0] == "left_shoulder_pan.pos"
    assert (found["cameras"]["front"]["width"], found["cameras"]["front"]["measured_fps"]) == (320, 25.0)
    assert (found["control"]["measured_rate_hz"], found["problems"]) == (199.9, ["left is gone"])
