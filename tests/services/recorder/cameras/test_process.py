"""The cameras in a process of their own, as the recorder uses them."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from rerun.chunk import RrdReader

from services.recorder.cameras.display import NO_SCREEN
from services.recorder.cameras.errors import CameraRefused, CameraUnreachable
from services.recorder.cameras.process import Cameras, running_cameras
from services.recorder.cameras.reports import CameraProblem
from services.recorder.clock import Clock
from tests.services.recorder.cameras.scenes import options, wait_until

CLOCK = Clock.started()
TWO = {"left": options("sim://l"), "right": options("sim://r", fps=25)}


async def until(condition: Callable[[], object], *, timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "the condition never held"
        await asyncio.sleep(0.005)


def num_files(folder: Path) -> int:
    return len(list(folder.glob("*.jpg")))


async def record(cameras: Cameras, folder: Path, *, num_frames: int) -> None:
    await cameras.start(folder)
    await until(lambda: num_files(folder / "left") >= num_frames)


async def test_episodes_follow_each_other_in_folders_of_their_own(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    async with running_cameras(TWO, clock=CLOCK, on_problem=problems.append) as cameras:
        await record(cameras, tmp_path / "first", num_frames=10)
        end_us = CLOCK.now_us()
        first = await cameras.stop()
        await record(cameras, tmp_path / "second", num_frames=2)
        await cameras.discard()
        num_discarded = num_files(tmp_path / "second" / "left")
        await record(cameras, tmp_path / "third", num_frames=5)
        third = await cameras.stop()

    assert {name: report.num_frames for name, report in first.items()} == {name: num_files(tmp_path / "first" / name) for name in TWO}
    assert {name: report.num_frames for name, report in third.items()} == {name: num_files(tmp_path / "third" / name) for name in TWO}
    assert all(report.last_us is not None and end_us - 200_000 < report.last_us <= CLOCK.now_us() for report in first.values())
    assert sum(report.num_lost for report in first.values()) == 0
    assert num_files(tmp_path / "second" / "left") == num_discarded
    assert problems == []


async def test_status_tells_the_rate_of_each_camera() -> None:
    async with running_cameras(TWO, clock=CLOCK, on_problem=print) as cameras:
        assert not cameras.status["left"].is_delivering
        await until(lambda: cameras.status["left"].fps > 35 and 15 < cameras.status["right"].fps < 30)

        assert cameras.status["right"].is_delivering


async def test_a_camera_that_is_not_as_asked_is_refused_and_leaves_no_process() -> None:
    before = set(psutil.Process().children())

    with pytest.raises(CameraRefused, match=r"camera left .*found 32x24, asked for 64x48"):
        async with running_cameras({"left": options("sim://x?size=32x24")}, clock=CLOCK, on_problem=print):
            pass

    assert set(psutil.Process().children()) <= before


async def test_a_problem_of_a_camera_is_told_while_it_records(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    cameras_options = {"left": options("sim://l"), "right": options("sim://r?unplug_after_s=0.2")}
    async with running_cameras(cameras_options, clock=CLOCK, on_problem=problems.append) as cameras:
        await cameras.start(tmp_path)
        await until(lambda: problems)
        reports = await cameras.stop()

    assert [problem.camera for problem in problems[:1]] == ["right"]
    assert reports["right"].problem
    assert reports["left"].problem is None


async def test_a_killed_camera_process_is_noticed_at_once_for_every_camera(tmp_path: Path) -> None:
    problems: list[CameraProblem] = []
    async with running_cameras(TWO, clock=CLOCK, on_problem=problems.append) as cameras:
        await cameras.start(tmp_path)
        os.kill(cameras.pid, signal.SIGKILL)
        await until(lambda: len(problems) == 2, timeout_s=2)
        cameras.show({"gripper.pos": 1.0}, 1)
        with pytest.raises(CameraUnreachable, match="ended with status -9; start the recorder again"):
            await cameras.stop()

        assert {problem.camera for problem in problems} == {"left", "right"}
        assert not any(status.is_delivering for status in cameras.status.values())


async def test_a_request_under_way_fails_when_the_camera_process_dies() -> None:
    async with running_cameras(TWO, clock=CLOCK, on_problem=lambda _: None) as cameras:
        os.kill(cameras.pid, signal.SIGSTOP)
        asking = asyncio.create_task(cameras.discard())
        await asyncio.sleep(0)
        os.kill(cameras.pid, signal.SIGKILL)

        with pytest.raises(CameraUnreachable, match="ended with status -9"):
            await asking


async def test_a_cancelled_request_does_not_confuse_the_next_one(tmp_path: Path) -> None:
    async with running_cameras(TWO, clock=CLOCK, on_problem=print) as cameras:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cameras.start(tmp_path), 0)
        await cameras.discard()
        await record(cameras, tmp_path / "next", num_frames=3)
        reports = await cameras.stop()

    assert set(reports) == set(TWO)


async def test_cameras_that_are_given_up_while_they_open_end_soon() -> None:
    before = set(psutil.Process().children())
    began_s = time.monotonic()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.7), running_cameras({"left": options("sim://x?stop_after_s=0")}, clock=CLOCK, on_problem=print):
            pass

    assert time.monotonic() - began_s < 5
    assert set(psutil.Process().children()) <= before


async def test_episodes_one_inside_the_other_are_a_programmers_mistake(tmp_path: Path) -> None:
    async with running_cameras(TWO, clock=CLOCK, on_problem=print) as cameras:
        with pytest.raises(ValueError, match="record nothing"):
            await cameras.stop()
        await cameras.discard()
        await cameras.start(tmp_path)
        with pytest.raises(ValueError, match="still record"):
            await cameras.start(tmp_path)

        assert set(await cameras.stop()) == set(TWO)


async def test_a_folder_that_cannot_be_made_is_told_and_the_next_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "left").write_text("a file is in the way")
    async with running_cameras(TWO, clock=CLOCK, on_problem=print) as cameras:
        with pytest.raises(CameraUnreachable, match="left cannot be made: File exists"):
            await cameras.start(tmp_path)
        await record(cameras, tmp_path / "next", num_frames=2)

        assert set(await cameras.stop()) == set(TWO)


async def test_signals_of_the_terminal_and_the_service_manager_do_not_end_the_cameras(tmp_path: Path) -> None:
    async with running_cameras(TWO, clock=CLOCK, on_problem=print) as cameras:
        assert os.getsid(cameras.pid) == cameras.pid
        os.kill(cameras.pid, signal.SIGINT)
        os.kill(cameras.pid, signal.SIGTERM)
        await record(cameras, tmp_path, num_frames=3)

        assert set(await cameras.stop()) == set(TWO)


async def test_images_and_joints_are_displayed(tmp_path: Path) -> None:
    async with running_cameras(TWO, clock=CLOCK, display=str(tmp_path / "show.rrd"), on_problem=print) as cameras:
        cameras.show({"left_gripper.pos": 3.5}, CLOCK.now_us())
        cameras.show({"too_soon.pos": 3.5}, CLOCK.now_us())
        await record(cameras, tmp_path, num_frames=20)
        await cameras.stop()

    shown = {chunk.entity_path for chunk in RrdReader(tmp_path / "show.rrd").stream().to_chunks()}
    assert {"/cameras/left", "/cameras/right", "/joints/left_gripper.pos"} <= shown
    assert "/joints/too_soon.pos" not in shown


async def test_a_display_without_a_screen_is_told_and_cameras_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    async with running_cameras(TWO, clock=CLOCK, display="spawn", on_problem=print) as cameras:
        assert cameras.display_problem == NO_SCREEN


PARENT = """
import asyncio, sys
from services.recorder.cameras.process import running_cameras
from services.recorder.cameras.options import CameraOptions
from services.recorder.clock import Clock

async def main():
    options = CameraOptions(type="opencv", index_or_path="sim://x", width=64, height=48, fps=30, warmup_s=0)
    async with running_cameras({"left": options}, clock=Clock.started(), on_problem=print) as cameras:
        print(cameras.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_camera_process_ends_with_its_parent(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.send_signal(number)

        wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
