"""Synthetic cameras, at the level of a device."""

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.synthetic import SyntheticDevice, SyntheticSource, rendered_loop
from tests.services.recorder.cameras.scenes import HEIGHT, WIDTH, decoded, options


def opened(address: str, fps: int = 100) -> SyntheticSource:
    return SyntheticDevice("left", options(address, fps=fps)).open()


def times_s(source: SyntheticSource, count: int) -> Iterator[float]:
    for _ in range(count):
        captured_s = source.grab()
        assert captured_s is not None
        yield captured_s


def test_frames_come_at_their_rate_with_a_small_jitter() -> None:
    source = opened("sim://scene", fps=40)

    found = np.array(list(times_s(source, 20)))

    ticks = np.round((found - found[0]) * 40)
    assert np.array_equal(np.diff(ticks), np.ones(19))
    assert 0 < np.ptp(found - ticks / 40) <= 0.001
    assert time.monotonic() >= found[-1]


def test_no_frame_is_like_its_neighbours_and_the_name_chooses_the_scene() -> None:
    frames = rendered_loop("left", size=(WIDTH, HEIGHT), num_frames=40)

    assert all(one != other for one, other in itertools.pairwise([*frames, frames[0]]))
    assert decoded(frames[0]).shape == (HEIGHT, WIDTH, 3)
    assert frames == rendered_loop("left", size=(WIDTH, HEIGHT), num_frames=40)
    assert frames != rendered_loop("right", size=(WIDTH, HEIGHT), num_frames=40)


def test_a_late_reader_finds_the_last_buffers_and_not_all_that_it_missed() -> None:
    source = opened("sim://scene?jitter_ms=0", fps=1000)
    first_s = source.grab()
    assert first_s is not None
    while time.monotonic() < first_s + 0.1:
        pass

    following_s = source.grab()

    assert following_s is not None
    assert following_s - first_s >= 0.09


def test_lost_frames_leave_gaps() -> None:
    found = np.array(list(times_s(opened("sim://scene?lose=0.3&jitter_ms=0", fps=500), 60)))

    assert np.diff(found).max() > 1.9 / 500


def test_damaged_frames_are_cut_off() -> None:
    source = opened("sim://scene?damage=1")
    assert source.grab() is not None

    with pytest.raises(ValueError, match="cut off"):
        source.retrieve()


def test_a_frozen_camera_sends_the_same_frame_again() -> None:
    source = opened("sim://scene?freeze_after_s=0")
    frames = [source.retrieve().data for _ in times_s(source, 3)]

    assert len(set(frames)) == 1


def test_an_unplugged_camera_gives_none_cannot_be_opened_and_comes_back() -> None:
    device = SyntheticDevice("left", options("sim://scene?unplug_after_s=0&back_after_s=0.2"))
    source = device.open()
    assert source.grab() is None
    with pytest.raises(CameraUnreachable, match="is unplugged"):
        device.open()

    deadline_s = time.monotonic() + 5
    while time.monotonic() < deadline_s:
        try:
            again = device.open()
            break
        except CameraUnreachable:
            continue

    assert again.grab() is not None


def test_a_silent_camera_goes_on_when_it_is_back() -> None:
    source = opened("sim://scene?stop_after_s=0.05&back_after_s=0.2&jitter_ms=0")

    found = np.array(list(times_s(source, 20)))

    assert 0.19 <= np.diff(found).max() <= 0.4


@pytest.mark.parametrize(
    ("address", "problem"), [("sim://absent", "there is no such synthetic camera"), ("sim://x?speed=1", "unknown field `speed`")]
)
def test_absent_and_wrong_addresses_are_refused(address: str, problem: str) -> None:
    with pytest.raises(CameraRefused, match=rf"camera left .*{problem}"):
        opened(address)
