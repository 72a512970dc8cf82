"""All cameras of a robot, asked by messages, in one process."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.recorder.cameras.messages import (
    Discard,
    Discarded,
    Message,
    Open,
    Opened,
    Problem,
    Refusal,
    Start,
    Started,
    Status,
    Stop,
    Stopped,
)
from services.recorder.cameras.options import CameraOptions
from services.recorder.cameras.rig import Rig
from services.recorder.clock import Clock
from tests.services.recorder.cameras.scenes import options, wait_until

CLOCK = Clock.started()


class Told:
    """What a rig has told."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[Message] = queue.Queue()
        self.messages: list[Message] = []

    def next_of(self, *kinds: type[Message]) -> Message:
        while True:
            message = self.waiting.get(timeout=10)
            self.messages.append(message)
            if isinstance(message, kinds):
                return message


@contextmanager
def rig_of(**cameras: CameraOptions) -> Iterator[tuple[Rig, Told]]:
    told = Told()
    rig = Rig(told.waiting.put, has_screen=False)
    rig.handle(Open(cameras, CLOCK.offset_ns, None))
    try:
        yield rig, told
    finally:
        rig.close()


def test_an_episode_of_two_cameras_is_reported_by_name(tmp_path: Path) -> None:
    with rig_of(left=options("sim://l"), right=options("sim://r", fps=25)) as (rig, told):
        assert told.next_of(Opened, Refusal) == Opened(None)
        rig.handle(Start(str(tmp_path), CLOCK.now_us()))
        assert told.next_of(Started, Refusal) == Started()
        wait_until(lambda: len(list((tmp_path / "right").iterdir())) >= 3)
        rig.handle(Stop(CLOCK.now_us()))
        stopped = told.next_of(Stopped)

    assert isinstance(stopped, Stopped)
    assert {name: report.num_frames for name, report in stopped.reports.items()} == {
        name: len(list((tmp_path / name).iterdir())) for name in ("left", "right")
    }


def test_what_is_wrong_with_several_cameras_is_told_together() -> None:
    with rig_of(left=options("sim://absent"), right=options("sim://x?size=2x2"), top=options("sim://y")) as (_, told):
        refusal = told.next_of(Opened, Refusal)

    assert isinstance(refusal, Refusal)
    assert refusal.kind == "refused"
    assert refusal.sentence.startswith("camera left (")
    assert "; camera right (" in refusal.sentence
    assert "camera top" not in refusal.sentence


@pytest.mark.parametrize("place", [987, "no such film.avi", "sim://x?speed=2"])
def test_a_place_where_no_camera_is_is_refused(place: int | str) -> None:
    with rig_of(left=options(place)) as (_, told):
        refusal = told.next_of(Opened, Refusal)

    assert isinstance(refusal, Refusal)
    assert f"index_or_path {place}" in refusal.sentence


def test_status_of_all_cameras_is_told_again_and_again() -> None:
    with rig_of(left=options("sim://l"), right=options("sim://r")) as (_, told):
        told.next_of(Opened)
        told.next_of(Status)
        status = told.next_of(Status)

    assert isinstance(status, Status)
    assert {name: camera.is_delivering for name, camera in status.cameras.items()} == {"left": True, "right": True}
    assert status.cameras["left"].fps == pytest.approx(50, abs=15)


def test_one_camera_that_stops_leaves_the_others_alone(tmp_path: Path) -> None:
    with rig_of(left=options("sim://l?unplug_after_s=0.3"), right=options("sim://r")) as (rig, told):
        told.next_of(Opened)
        rig.handle(Start(str(tmp_path), CLOCK.now_us()))
        problem = told.next_of(Problem)
        num_frames = len(list((tmp_path / "right").iterdir()))
        wait_until(lambda: len(list((tmp_path / "right").iterdir())) > num_frames + 5)
        rig.handle(Stop(CLOCK.now_us()))
        stopped = told.next_of(Stopped)

    assert isinstance(problem, Problem)
    assert isinstance(stopped, Stopped)
    assert problem.problem.camera == "left"
    assert stopped.reports["left"].problem == problem.problem.message
    assert stopped.reports["right"].problem is None


def test_a_folder_that_cannot_be_made_is_refused_and_the_next_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "right").write_text("a file is in the way")
    with rig_of(left=options("sim://l"), right=options("sim://r")) as (rig, told):
        told.next_of(Opened)
        rig.handle(Start(str(tmp_path / "taken"), CLOCK.now_us()))
        refusal = told.next_of(Started, Refusal)
        rig.handle(Start(str(tmp_path / "next"), CLOCK.now_us()))
        following = told.next_of(Started, Refusal)
        rig.handle(Discard())
        discarded = told.next_of(Discarded)

    assert isinstance(refusal, Refusal)
    assert refusal.kind == "unreachable"
    assert (following, discarded) == (Started(), Discarded())
