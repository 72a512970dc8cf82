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
from tests.e2e.recorders import Recorder, Robot, recording, simulated

SHORT = {"dataset__episode_time_s": "1", "dataset__reset_time_s": "0"}


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_five_episodes_and_then_fifty_survive_the_death_of_recorder_converter_and_uploader(tmp_path: Path) -> None:
    kills = {"recorder": 0, "converter-1": 0, "uploader": 0}
    with simulated(tmp_path) as robot:
        for total in (25, 50):
            while not recorded_to(robot, total, kills):
                pass
    dataset = tmp_path / "home" / "lab" / "blocks"
    info = read_info(dataset)
    lines = [json.loads(line) for line in (dataset / "meta" / "episodeflow" / "episodes.jsonl").read_text().splitlines()]

    assert info.total_episodes == 50
    assert len({line["episode_id"] for line in lines}) == 50
    assert check_dataset(dataset).problems == ()
    assert min(kills.values()) >= 2, kills


def recorded_to(robot: Robot, total: int, kills: dict[str, int]) -> bool:
    """Record until the dataset has so many episodes, or until the recorder is killed; say whether it got there."""
    resume = "true" if (robot.folder / "home" / "lab" / "blocks").exists() or kills["recorder"] else None
    with recording(robot, dataset__num_episodes=str(total), dataset__resume=resume, **SHORT) as recorder:
        if kills["recorder"] % 2 == 0:
            recorder.until("is in the dataset")
            kill_service(recorder, robot, "converter-1", kills)
            recorder.until("is in the dataset")
            kill_service(recorder, robot, "uploader", kills)
            recorder.until("Recording episode")
            recorder.kill()
            kills["recorder"] += 1
            return False
        kills["recorder"] += recorder.ended() == 0
    return True


def kill_service(recorder: Recorder, robot: Robot, name: str, kills: dict[str, int]) -> None:
    """End a service with SIGKILL in the middle of an episode."""
    recorder.until("Recording episode")
    time.sleep(0.4)
    endpoints = json.loads((robot.folder / "state" / "endpoints.json").read_text())
    pid = endpoints["services"][name]["pid"]
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
        kills[name] += 1
