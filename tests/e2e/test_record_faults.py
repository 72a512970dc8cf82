"""The two command lines of a lab, 25 episodes and then 50, with every process killed now and then. Long: `make soak`."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from shared.lerobot.check import check_dataset
from shared.lerobot.info import read_info
from tests.e2e.recorders import Recorder, Robot, recorded, recording, simulated

SHORT = {"dataset__episode_time_s": "1", "dataset__reset_time_s": "0"}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_five_episodes_and_then_fifty_survive_the_death_of_recorder_converter_and_uploader(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot:
        recorded_until_killed(robot, 25, resume=None)
        recorded_until_killed(robot, 25, resume="true")
        finished = recorded(robot, **SHORT, dataset__num_episodes="25", dataset__resume="true")
        recorded_until_killed(robot, 50, resume="true")
        resumed = recorded(robot, **SHORT, dataset__num_episodes="50", dataset__resume="true")
    dataset = tmp_path / "hf" / "lab" / "blocks"
    info = read_info(dataset)
    lines = [json.loads(line) for line in (dataset / "meta" / "episodeflow" / "episodes.jsonl").read_text().splitlines()]

    assert (finished.process.returncode, resumed.process.returncode) == (0, 0), resumed.printed
    assert [line["episode_index"] for line in lines] == list(range(50))
    assert len({line["episode_id"] for line in lines}) == info.total_episodes == 50
    assert check_dataset(dataset).problems == ()


def recorded_until_killed(robot: Robot, total: int, *, resume: str | None) -> None:
    """Record, kill the converter and the uploader in the middle of episodes, and then the recorder."""
    with recording(robot, dataset__num_episodes=str(total), dataset__resume=resume, **SHORT) as recorder:
        recorder.until("is in the dataset")
        kill_service(recorder, robot, "converter-1")
        recorder.until("is in the dataset")
        kill_service(recorder, robot, "uploader")
        recorder.until("Recording episode")
        recorder.kill()


def kill_service(recorder: Recorder, robot: Robot, name: str) -> None:
    """End a service with SIGKILL in the middle of an episode."""
    recorder.until("Recording episode")
    time.sleep(0.4)
    endpoints = json.loads((robot.folder / "state" / "endpoints.json").read_text())
    os.kill(endpoints["services"][name]["pid"], signal.SIGKILL)
