"""What gets into a dataset whatever the robot does: every row at its time, in the place it was recorded for."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from services.recorder.journal import Journal, RecordedEpisode
from shared.lerobot.check import check_dataset
from tests.e2e.recorders import Recorder, Robot, recorded, simulated

pytestmark = pytest.mark.timeout(240)

SLOW_CAMERAS = (
    "{ left: {type: opencv, index_or_path: 'sim://left?lose=0.2', width: 320, height: 240, fps: 30, warmup_s: 0},"
    " front: {type: opencv, index_or_path: sim://front, width: 320, height: 240, fps: 10, warmup_s: 0} }"
)


def test_lost_answers_lost_frames_and_a_slow_camera_leave_no_row_out(tmp_path: Path) -> None:
    with simulated(tmp_path, "--faults", "left_follower.corrupt=13") as robot:
        recorder = recorded(robot, dataset__num_episodes="1", dataset__episode_time_s="4", robot__cameras=SLOW_CAMERAS)
    dataset = tmp_path / "hf" / "lab" / "blocks"

    assert recorder.process.returncode == 0, recorder.printed
    alignment = json.loads((dataset / "meta" / "episodeflow" / "episode_000000.json").read_text())["alignment"]
    assert (alignment["num_rows"], alignment["num_dropped"]) == (120, 0)
    assert alignment["last_us"] - alignment["first_us"] == 3_966_667  # 119 rows of a thirtieth of a second
    assert alignment["streams"]["front"]["num_held"] >= 30
    assert json.loads((dataset / "meta" / "episodes.jsonl").read_text())["length"] == 120
    assert check_dataset(dataset).problems == ()


def noted(robot: Robot, old: Path, *, age_s: float) -> None:
    """Note an episode as one that was recorded when the dataset lay in ``old``."""
    episode = RecordedEpisode(
        episode_id="earlier", source="robot", dataset="lab/blocks", task="Stack.", saved_at=time.time() - age_s, num_frames=36,
        dataset_uri=old.as_uri(),
    )  # fmt: skip
    Journal(robot.folder / "state" / "recorder" / "sim").note(episode)


def test_a_dataset_in_another_place_waits_for_what_is_on_its_way_to_the_first(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "hf" / "lab" / "blocks"
    with simulated(tmp_path) as robot:
        noted(robot, old, age_s=60)
        refused = recorded(robot, dataset__num_episodes="1")

    assert refused.process.returncode == 1
    assert refused.has(f"1 episodes recorded here for it are still on their way to {old.as_uri()}, and this recording would go to")
    assert refused.has(f"{new.as_uri()}: record there once more with --dataset.resume=true")
    assert not any(line.startswith("Recording episode") for line in refused.lines)


def test_what_is_known_no_more_holds_no_other_place_up(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot:
        noted(robot, tmp_path / "old", age_s=8 * 86_400)
        recorder: Recorder = recorded(robot, dataset__num_episodes="1")

    assert recorder.process.returncode == 0, recorder.printed
    assert check_dataset(tmp_path / "hf" / "lab" / "blocks").problems == ()


def test_a_place_that_cannot_be_written_is_found_before_anything_moves(tmp_path: Path) -> None:
    home, state = tmp_path / "home", tmp_path / "file"
    home.touch()
    state.touch()
    with simulated(tmp_path / "robot") as robot:
        unwritable = recorded(robot, dataset__root=str(home / "blocks"))
        stateless = recorded(robot, state=state / "state")

    assert (unwritable.process.returncode, stateless.process.returncode) == (1, 1)
    assert unwritable.lines[-1].startswith(f"error: {home / 'blocks'}: the dataset cannot be written there: "), unwritable.printed
    assert stateless.lines == [f"error: {state / 'state'} cannot be the state folder: [Errno 20] Not a directory: "
                               f"'{state / 'state'}'; choose another with --state"]  # fmt: skip
