"""A process per episode: errors cross its border whole, its death is one episode's failure, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from services.converter.assignment import Assignment
from services.converter.worker import convert_in_process
from shared.config import StrategyConfig
from shared.errors import BadConfig, BadRaw, DiskFull, Filtered, Rejected, Retryable, WorkerCrashed
from tests.services.converter.episodes import CAMERAS, jpeg, raw_episode, strategy, write_episode

DEADLINE_S = 30.0


def assignment(folder: Path, config: StrategyConfig | None = None) -> Assignment:
    return Assignment(
        source="local", episode_id=folder.name, raw=raw_episode(folder), config=config or strategy(), folder=folder.parent / "part"
    )


@pytest.fixture(scope="module")
def slow_episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An episode whose encoding takes seconds: large images."""
    folder = write_episode(tmp_path_factory.mktemp("slow"), seconds=4)
    image = jpeg(1, width=1280, height=960)
    for path in folder.glob("images/*/*.jpg"):
        path.write_bytes(image)
    return folder


def slow_assignment(slow_episode: Path, tmp_path: Path) -> Assignment:
    config = strategy(video__preset="slower")
    return Assignment(source="local", episode_id="slow", raw=raw_episode(slow_episode), config=config, folder=tmp_path / "part")


def descendants() -> Iterator[psutil.Process]:
    yield from psutil.Process().children(recursive=True)


async def poll(condition: Callable[[], bool]) -> None:
    """Wait for the world to get there, within a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.01)


async def test_a_conversion_answers_with_its_part_and_progress_that_adds_up(tmp_path: Path) -> None:
    progress: list[int] = []
    made = assignment(write_episode(tmp_path))

    result = await convert_in_process(made, progress.append)
    assert sum(progress) == result.frames * len(CAMERAS)
    assert (made.folder / "meta/info.json").is_file()


async def failure(made: Assignment) -> Exception:
    with pytest.raises((Rejected, Retryable)) as caught:
        await convert_in_process(made)
    assert not made.folder.exists()
    return caught.value


async def test_bad_raw_crosses_the_border_with_its_fields(tmp_path: Path) -> None:
    folder = write_episode(tmp_path, seconds=0.3)
    (folder / "joints/left_slave.parquet").write_bytes(b"PAR1")

    error = await failure(assignment(folder))
    assert isinstance(error, BadRaw)
    assert error.path == "joints/left_slave.parquet"
    assert str(error).startswith("joints/left_slave.parquet: is no whole parquet file (4 bytes): ")


async def test_a_defect_in_the_middle_of_encoding_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = write_episode(tmp_path)
    bad = sorted((folder / "images/cam_base").iterdir())[20]
    bad.write_bytes(bad.read_bytes()[:-100])

    error = await failure(assignment(folder))
    assert isinstance(error, BadRaw)
    assert error.path == f"images/cam_base/{bad.name}"
    assert os.listdir(tmp_path) == ["episode_0001"]  # noqa: PTH208 - a Path would block the loop, says the linter


async def test_bad_config_crosses_the_border_with_its_fields(tmp_path: Path) -> None:
    error = await failure(assignment(write_episode(tmp_path, seconds=0.3), strategy(video__preset="quick")))

    assert isinstance(error, BadConfig)
    assert (error.place, error.key) == ("video", "preset")
    assert str(error).startswith("video: preset: h264 has no preset 'quick', expected one of ")


async def test_filtered_crosses_the_border_with_its_sentence(tmp_path: Path) -> None:
    error = await failure(assignment(write_episode(tmp_path, seconds=0.3), strategy(filtering__min_frames=1000)))

    assert type(error) is Filtered
    assert str(error).endswith("rows, filtering.min_frames is 1000")


FULL_DISK = """
import asyncio, multiprocessing, pickle, resource, sys
from services.converter.worker import convert_in_process
from shared.errors import DiskFull

def main():
    assignment = pickle.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    try:
        asyncio.run(convert_in_process(assignment))
    except DiskFull as error:
        print(type(error).__name__, error, assignment.folder.exists())

if __name__ == "__main__":
    main()
"""


def run_script(tmp_path: Path, script: str, made: Assignment) -> subprocess.Popen[bytes]:
    import pickle

    path = tmp_path / "script.py"
    path.write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(made))
    process.stdin.close()
    process.stdin = None
    return process


def test_a_full_disk_crosses_the_border_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = assignment(write_episode(tmp_path, seconds=0.4))
    with run_script(tmp_path, FULL_DISK, made) as process:
        output, _ = process.communicate(timeout=DEADLINE_S)

    sentence = str(DiskFull(f"{tmp_path}: no room for the dataset (File too large); make room, the episode is tried again"))
    assert output.decode().strip() == f"DiskFull {sentence} False"


async def killed(made: Assignment, signal_number: signal.Signals) -> str:
    started = asyncio.Event()
    before = {process.pid for process in descendants()}
    task = asyncio.create_task(convert_in_process(made, lambda _: started.set()))
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    (worker,) = [process for process in descendants() if process.pid not in before and is_worker(process)]
    worker.send_signal(signal_number)
    with pytest.raises(WorkerCrashed) as caught:
        await task
    assert not made.folder.exists()
    return str(caught.value)


def is_worker(process: psutil.Process) -> bool:
    """The forkserver's children convert; the forkserver and the resource tracker are our own children."""
    return process.ppid() != os.getpid()


async def test_a_killed_process_is_a_crash_that_names_the_signal(slow_episode: Path, tmp_path: Path) -> None:
    assert await killed(slow_assignment(slow_episode, tmp_path), signal.SIGKILL) == (
        "the process converting the episode died by SIGKILL (out of memory?); see the log of the host it ran on"
    )


async def test_a_terminated_process_is_a_crash_that_names_the_signal(slow_episode: Path, tmp_path: Path) -> None:
    assert await killed(slow_assignment(slow_episode, tmp_path), signal.SIGTERM) == (
        "the process converting the episode died by SIGTERM; see the log of the host it ran on"
    )


async def test_cancelling_kills_the_process_and_removes_its_folder(slow_episode: Path, tmp_path: Path) -> None:
    made, started = slow_assignment(slow_episode, tmp_path), asyncio.Event()
    task = asyncio.create_task(convert_in_process(made, lambda _: started.set()))
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    assert made.folder.exists()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not made.folder.exists()
    assert [process.pid for process in descendants() if is_worker(process)] == []


async def test_cancelling_while_the_process_starts_leaves_no_process(slow_episode: Path, tmp_path: Path) -> None:
    for num_turns in range(1, 6):
        made = slow_assignment(slow_episode, tmp_path)
        task = asyncio.create_task(convert_in_process(made))
        for _ in range(num_turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert [process.pid for process in descendants() if is_worker(process)] == []
        assert not made.folder.exists()


async def test_conversions_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    good = [assignment(write_episode(tmp_path / str(index), seconds=0.4)) for index in range(3)]
    bad = write_episode(tmp_path / "bad", seconds=0.4)
    (bad / "joints/left_slave.parquet").unlink()

    results = await asyncio.gather(*(convert_in_process(made) for made in [*good, assignment(bad)]), return_exceptions=True)
    assert [getattr(result, "frames", None) for result in results[:3]] == [9, 9, 9]
    assert isinstance(results[3], BadRaw)


PARENT = """
import asyncio, pickle, sys
from services.converter.worker import convert_in_process

def main():
    assignment = pickle.loads(sys.stdin.buffer.read())
    asyncio.run(convert_in_process(assignment, lambda _: print("encoding", flush=True)))

if __name__ == "__main__":
    main()
"""


async def test_the_process_ends_when_its_parent_is_killed(slow_episode: Path, tmp_path: Path) -> None:
    with run_script(tmp_path, PARENT, slow_assignment(slow_episode, tmp_path)) as parent:
        assert parent.stdout is not None
        line = await asyncio.to_thread(parent.stdout.readline)
        family = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()

        assert line == b"encoding\n"
        assert len(family) >= 3  # forkserver, resource tracker, worker
        await poll(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))
        assert not (tmp_path / "part/meta/info.json").exists()  # it ended because nobody listens, not because it was done
