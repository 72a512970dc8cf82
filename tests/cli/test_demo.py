"""`episodeflow demo` as a process: a simulated robot's episodes become a checked dataset, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cli.state import StateFolder
from shared.lerobot.check import check_dataset
from shared.lifecycle import EXIT_INTERRUPTED
from tests.e2e.stacks import EPISODEFLOW, run_command

pytestmark = pytest.mark.timeout(120)


async def test_demo_shows_every_stage_and_leaves_one_sound_dataset_that_the_next_demo_continues(tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "home"
    environ = {"HOME": str(home), "HF_LEROBOT_HOME": str(home / "lerobot")}
    first = await run_command("demo", "--episodes", "1", "--state", str(state), environ=environ)
    second = await run_command("demo", "--episodes", "1", "--state", str(state), environ=environ)
    report = check_dataset(state / "dataset")

    assert [(status, err) for status, _, err in (first, second)] == [(0, ""), (0, "")]
    assert all(stage in first[1] for stage in ("recorded", "announced", "converted", "in dataset"))
    assert "Recording episode 1/1" in first[1]
    assert f"checked dataset: {state / 'dataset'} (1 episodes, " in first[1]
    assert "Recording episode 2/2" in second[1]
    assert (report.problems, report.episodes) == ((), 2)
    assert not home.exists()
    assert running_in(state) == []


@pytest.mark.parametrize("moment", ["a simulated robot is up", "recording 2 x 4 s", "Recording episode 1/2"])
async def test_ctrl_c_stops_everything_at_any_moment(tmp_path: Path, moment: str) -> None:
    async with demonstrated(tmp_path) as process:
        await until(process, moment)
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()

    assert process.returncode == EXIT_INTERRUPTED
    assert "submitted for saving" not in out.decode()
    assert err.decode() == f"interrupted: everything is stopped, the files are in {tmp_path}\n"
    assert running_in(tmp_path) == []


async def test_a_robot_that_goes_away_ends_the_demo_with_one_sentence(tmp_path: Path) -> None:
    async with demonstrated(tmp_path) as process:
        await until(process, "Recording episode 1/2")
        (simulator,) = (each for each in running_in(tmp_path) if "simulate" in each.info["cmdline"])
        simulator.kill()
        _, err = await process.communicate()

    assert process.returncode == 1
    error, consequence = err.decode().splitlines()
    assert error.startswith("error: ")
    assert "follower may still hold its position" in consequence
    assert running_in(tmp_path) == []


async def test_a_folder_in_which_servers_run_is_refused(tmp_path: Path) -> None:
    with StateFolder(tmp_path).held():
        status, out, err = await run_command("demo", "--state", str(tmp_path))

    assert (status, out) == (1, "")
    assert err.startswith(f"error: {tmp_path} is in use by another `episodeflow up` or `record`")


@asynccontextmanager
async def demonstrated(state: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the demo for the block; what still runs afterwards is killed."""
    process = await asyncio.create_subprocess_exec(
        EPISODEFLOW,
        "demo",
        "--state",
        str(state),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


async def until(process: asyncio.subprocess.Process, text: str) -> None:
    """Read until a line has ``text``."""
    assert process.stdout is not None
    while text not in (line := (await process.stdout.readline()).decode()):
        assert line, f"the demo ended without {text!r}"


def running_in(state: Path) -> list[psutil.Process]:
    """Return the processes whose command line names the folder, the demo itself left aside."""
    found = [(each, " ".join(each.info["cmdline"] or [])) for each in psutil.process_iter(["cmdline"])]
    return [each for each, line in found if str(state) in line and " demo " not in line]
