"""One thread per camera, with synthetic cameras and sources that do what a test says."""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.jpeg import Jpeg
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.reader import Reader
from services.recorder.cameras.reports import CameraProblem
from services.recorder.cameras.sources import Opener, opener
from services.recorder.clock import Clock
from tests.services.recorder.cameras.scenes import HEIGHT, WIDTH, options, wait_until

CLOCK = Clock.started()


class Puppet:
    """A camera whose frames come when the test says so, captured when the test says so."""

    def __init__(self) -> None:
        self.captured_s: queue.Queue[float | None] = queue.Queue()
        self.num_retrieved = 0
        self.is_closed = False

    def grab(self) -> float | None:
        return self.captured_s.get()

    def retrieve(self) -> Jpeg:
        self.num_retrieved += 1
        return Jpeg(b"%d" % self.num_retrieved, WIDTH, HEIGHT)

    def interrupt(self) -> None:
        self.captured_s.put(None)

    def close(self) -> None:
        self.is_closed = True


@contextmanager
def reading(
    found: CameraOptions, problems: list[CameraProblem], *, open_camera: Opener | None = None, timeout_s: float = 5.0
) -> Iterator[Reader]:
    reader = Reader("left", found, open_camera=open_camera or opener("left", found), clock=CLOCK, on_problem=problems.append)
    reader.start()
    try:
        reader.wait_ready(timeout_s)
        yield reader
    finally:
        reader.close()


def names_us(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in folder.iterdir())


def test_frames_captured_between_begin_and_end_are_the_files(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    with reading(options("sim://x", fps=100), problems) as reader:
        start_us = CLOCK.now_us()
        reader.begin(tmp_path / "left", start_us=start_us)
        wait_until(lambda: len(list((tmp_path / "left").iterdir())) > 20)
        end_us = CLOCK.now_us()
        report = reader.end(end_us=end_us)
        written_us = names_us(tmp_path / "left")

    assert report.num_frames == len(written_us) > 20
    assert (report.first_us, report.last_us) == (written_us[0], written_us[-1])
    assert start_us <= written_us[0]
    assert end_us - 100_000 < written_us[-1] <= end_us
    assert (report.num_lost, report.num_damaged, report.num_repeated, report.problem, problems) == (0, 0, 0, None, [])


def test_a_frame_captured_before_the_end_but_handed_over_after_it_is_written(tmp_path: Path) -> None:
    puppet = Puppet()
    puppet.captured_s.put(1.0)
    with reading(options(0, fps=1), [], open_camera=lambda: puppet) as reader:
        reader.begin(tmp_path, start_us=CLOCK.at_us(10.0))
        puppet.captured_s.put(10.5)
        ending = threading.Thread(target=reader.end, kwargs={"end_us": CLOCK.at_us(11.0)})
        ending.start()
        puppet.captured_s.put(10.9)
        puppet.captured_s.put(11.1)
        ending.join()

    assert names_us(tmp_path) == [CLOCK.at_us(10.5), CLOCK.at_us(10.9)]


def test_two_frames_never_have_the_same_time(tmp_path: Path) -> None:
    puppet = Puppet()
    puppet.captured_s.put(1.0)
    with reading(options(0), [], open_camera=lambda: puppet) as reader:
        reader.begin(tmp_path, start_us=0)
        for captured_s in (10.0, 10.0, 9.0, 11.0, 99.0):
            puppet.captured_s.put(captured_s)
        report = reader.end(end_us=CLOCK.at_us(50.0))

    first_us = CLOCK.at_us(10.0)
    assert names_us(tmp_path) == [first_us, first_us + 1, first_us + 2, CLOCK.at_us(11.0)]
    assert report.num_frames == 4


def test_frames_that_nobody_wants_are_not_even_fetched() -> None:
    puppet = Puppet()
    puppet.captured_s.put(1.0)
    with reading(options(0), [], open_camera=lambda: puppet) as reader:
        for captured_s in range(2, 50):
            puppet.captured_s.put(captured_s)
        wait_until(puppet.captured_s.empty)
        assert reader.watch().is_delivering

    assert puppet.num_retrieved == 1  # to check the size
    assert puppet.is_closed


def test_a_silent_camera_is_told_once_marks_the_episode_and_is_told_again_when_it_is_back(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    with reading(options("sim://x?stop_after_s=0.3&back_after_s=1.6"), problems) as reader:
        reader.begin(tmp_path, start_us=CLOCK.now_us())
        wait_until(lambda: not reader.watch().is_delivering)
        reader.watch()
        noticed = list(problems)
        wait_until(lambda: reader.watch().is_delivering)
        wait_until(lambda: len(problems) > 1)
        report = reader.end(end_us=CLOCK.now_us())

    assert [problem.is_over for problem in problems] == [False, True]
    assert noticed == problems[:1]
    assert "has sent no frame for 1." in problems[0].message
    assert "delivers again after 1." in problems[1].message
    assert report.problem == problems[0].message
    assert 1590 <= report.longest_gap_ms <= 2500
    assert report.num_late >= 1


def test_a_camera_that_stops_right_after_its_first_frame_is_told() -> None:
    problems: list[CameraProblem] = []
    with reading(options("sim://x?stop_after_s=0.03&jitter_ms=0"), problems) as reader:
        wait_until(lambda: not reader.watch().is_delivering)

    assert "has sent no frame for 1." in problems[0].message


def test_an_unplugged_camera_is_told_at_once_and_opened_again(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    with reading(options("sim://x?unplug_after_s=0.2&back_after_s=0.4"), problems) as reader:
        reader.begin(tmp_path, start_us=CLOCK.now_us())
        wait_until(lambda: problems)
        wait_until(lambda: len(problems) > 1)
        wait_until(lambda: reader.watch().is_delivering)
        report = reader.end(end_us=CLOCK.now_us())

    assert "gives no frames any more" in problems[0].message
    assert problems[1].is_over
    assert report.problem == problems[0].message
    assert report.num_frames > 5


def test_ending_an_episode_of_a_stopped_camera_does_not_wait_for_it(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    with reading(options("sim://x?unplug_after_s=0.1", fps=2), problems) as reader:
        wait_until(lambda: problems)
        reader.begin(tmp_path, start_us=CLOCK.now_us())
        began_s = time.monotonic()
        report = reader.end(end_us=CLOCK.now_us())
        lasted_s = time.monotonic() - began_s

    assert lasted_s < 0.5  # its period
    assert report.num_frames == 0
    assert report.problem == problems[0].message


def test_damaged_frames_are_counted_and_not_written(tmp_path: Path) -> None:
    with reading(options("sim://x?damage=0.5", fps=200), []) as reader:
        reader.begin(tmp_path, start_us=CLOCK.now_us())
        wait_until(lambda: len(list(tmp_path.iterdir())) > 10)
        report = reader.end(end_us=CLOCK.now_us())

    assert report.num_damaged > 0
    assert report.problem
    assert "arrived damaged" in report.problem
    assert report.num_frames == len(names_us(tmp_path))


def test_a_discarded_episode_gets_no_more_frames_and_the_next_one_does(tmp_path: Path) -> None:
    with reading(options("sim://x", fps=200), []) as reader:
        reader.begin(tmp_path / "first", start_us=CLOCK.now_us())
        reader.discard()
        left_us = names_us(tmp_path / "first")
        reader.begin(tmp_path / "second", start_us=CLOCK.now_us())
        wait_until(lambda: len(list((tmp_path / "second").iterdir())) > 3)
        reader.end(end_us=CLOCK.now_us())

    assert names_us(tmp_path / "first") == left_us


def test_a_camera_that_delivers_another_size_is_refused_with_both() -> None:
    with pytest.raises(CameraRefused, match=f"found 32x24, asked for {WIDTH}x{HEIGHT}"), reading(options("sim://x?size=32x24"), []):
        pass


def test_a_camera_that_shows_no_frame_in_time_is_unreachable() -> None:
    with (
        pytest.raises(CameraUnreachable, match=r"showed no frame within 0.2 s"),
        reading(options("sim://x?stop_after_s=0"), [], timeout_s=0.2),
    ):
        pass


def test_a_camera_of_which_every_frame_is_damaged_is_unreachable() -> None:
    with pytest.raises(CameraUnreachable, match=r"shows no whole frame \(it is cut off"), reading(options("sim://x?damage=1", fps=500), []):
        pass


def test_an_end_without_a_begin_is_a_programmers_mistake() -> None:
    with reading(options(), []) as reader, pytest.raises(ValueError, match="records nothing"):
        reader.end(end_us=CLOCK.now_us())
