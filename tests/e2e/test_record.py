"""`episodeflow record` on a simulated robot, as a person with a laptop uses it: real ports, real servers, real datasets."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from cli.s3_server import S3Server
from shared.config import BosConfig
from shared.lerobot.check import check_dataset
from shared.lerobot.info import Info, read_info
from shared.lerobot.state import dataset_state
from shared.store import open_store
from tests.e2e.recorders import Recorder, Robot, recorded, recording, simulated
from tests.e2e.stacks import up, write_config
from tests.fixtures_store import create_bucket
from tests.hub_server import TOKEN, hub_server

pytestmark = pytest.mark.timeout(240)

LONG_ENOUGH_S = 0.5
"""A key that is pressed sooner after the beginning of an episode counts as pressed twice."""


def checked(robot: Robot) -> Info:
    """Return the info.json of a dataset in which nothing is wrong."""
    dataset = robot.folder / "hf" / "lab" / "blocks"
    assert check_dataset(dataset).problems == ()
    return read_info(dataset)


def cues(recorder: Recorder) -> list[str]:
    return [line for line in recorder.lines if line.startswith("Recording episode")]


def test_a_dataset_is_begun_resumed_and_found_complete(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot:
        begun = recorded(robot, dataset__num_episodes="2")
        resumed = recorded(robot, dataset__num_episodes="3", dataset__resume="true", dataset__single_task="Unstack them.")
        complete = recorded(robot, dataset__num_episodes="3", dataset__resume="true")
    info = checked(robot)

    assert [each.process.returncode for each in (begun, resumed, complete)] == [0, 0, 0]
    assert cues(begun) == ["Recording episode 1/2", "Recording episode 2/2"]
    assert resumed.has(f"Dataset resumed: file://{tmp_path}/hf/lab/blocks: 2 episodes, "), resumed.printed
    assert resumed.has(" frames, 1 tasks")
    assert cues(resumed) == ["Recording episode 3/3"]
    assert resumed.has("Episode 3 submitted for saving")
    assert complete.has("3 of 3 episodes are there: nothing to record")
    assert cues(complete) == []
    assert (info.total_episodes, info.total_tasks, info.fps, info.robot_type) == (3, 2, 30, "bi_so100_follower")
    assert _lengths(robot) == [36, 36, 36]  # 1.2 s at 30 fps


def test_arrow_keys_of_a_terminal_discard_end_and_stop(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot, recording(robot, is_terminal=True, dataset__episode_time_s="60") as recorder:
        recorder.until("Recording episode 1/50")
        recorder.press("\x1b[D")
        recorder.until("Episode 1 is discarded")
        for number in (1, 2):
            recorder.until(f"Recording episode {number}/50")
            time.sleep(LONG_ENOUGH_S)
            recorder.press("\x1b[C")
            recorder.until(f"Episode {number} submitted for saving")
        recorder.until("Recording episode 3/50")
        time.sleep(LONG_ENOUGH_S)
        recorder.press("\x1b")
        recorder.until("Episode 3 submitted for saving")
        status = recorder.ended()

    assert status == 0, recorder.printed
    assert checked(robot).total_episodes == 3


def test_an_episode_can_be_discarded_while_the_scene_is_reset_if_it_is_held_back(tmp_path: Path) -> None:
    held = {"dataset__num_episodes": "2", "dataset__reset_time_s": "60", "hold_during_reset": "true"}
    with simulated(tmp_path) as robot, recording(robot, **held) as recorder:
        recorder.until("Reset the environment")
        recorder.press("r")
        recorder.until("Episode 1 is discarded")
        recorder.press("n")
        recorder.until("Reset the environment")
        recorder.press("n")
        status = recorder.ended()

    assert status == 0
    assert cues(recorder) == ["Recording episode 1/2", "Recording episode 1/2", "Recording episode 2/2"]
    assert checked(robot).total_episodes == 2


def test_raw_episodes_are_removed_once_they_are_in_the_dataset_if_nobody_wants_them(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot:
        kept = recorded(robot, dataset__num_episodes="1")
        removed = recorded(robot, dataset__num_episodes="2", dataset__resume="true", keep_raw="false")
    raw = tmp_path / "state" / "store" / "raw_datas"

    assert kept.has(f"raw episodes are kept in {raw}")
    assert removed.has(f"1 raw episodes are removed from {raw}")
    assert len(list(raw.iterdir())) == 1
    assert checked(robot).total_episodes == 2


def test_a_recorder_that_is_killed_loses_the_episode_it_was_recording_and_nothing_else(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot:
        with recording(robot, dataset__num_episodes="3") as killed:
            killed.until("Recording episode 2/3")
            time.sleep(LONG_ENOUGH_S)
            killed.kill()
        with recording(robot, dataset__num_episodes="3", dataset__resume="true") as resumed:
            status = resumed.ended()

    assert status == 0, resumed.printed
    assert resumed.has("was being recorded when the recorder was killed: removed")
    assert cues(resumed) == ["Recording episode 2/3", "Recording episode 3/3"]
    assert checked(robot).total_episodes == 3


def test_ctrl_c_ends_a_recording_without_the_episode_in_hand_and_with_all_others(tmp_path: Path) -> None:
    with simulated(tmp_path) as robot, recording(robot, dataset__num_episodes="3") as recorder:
        recorder.until("Recording episode 2/3")
        recorder.process.terminate()
        status = recorder.ended()

    assert status == 0, recorder.printed
    assert checked(robot).total_episodes == 1


def test_two_robots_feed_one_dataset_at_once(tmp_path: Path) -> None:
    state = tmp_path / "state"
    shared = {"HF_LEROBOT_HOME": str(tmp_path / "left" / "hf")}
    with simulated(tmp_path / "left", robot_id="left") as left, simulated(tmp_path / "right", robot_id="right") as right:
        assert recorded(left, state=state, dataset__num_episodes="1").process.returncode == 0
        more = {"dataset__num_episodes": "4", "dataset__resume": "true"}
        with recording(left, state=state, **more) as one, recording(right, state=state, environ=shared, **more) as other:
            statuses = one.ended(), other.ended()
    info = checked(left)

    assert statuses == (0, 0), one.printed + other.printed
    assert info.total_episodes == 7
    assert info.total_frames == sum(_lengths(left))


async def test_nothing_is_lost_while_the_bus_and_the_store_are_away(tmp_path: Path, private_s3_server: S3Server) -> None:
    await create_bucket(private_s3_server, "lab")
    bos = private_s3_server.bos_config("lab")
    section = {"endpoint": private_s3_server.endpoint, "bucket": "lab"}
    config = write_config(tmp_path / "lab", bos=section, sources=["robot"], redis={"max_workers": 1})
    environ = {"BOS_ACCESS_KEY": private_s3_server.access_key, "BOS_SECRET_KEY": private_s3_server.secret_key}
    state = tmp_path / "servers"
    storage = ("-c", str(state / "storage.yaml"))
    with simulated(tmp_path) as robot:
        async with up(state, "-c", str(config), environ=environ):
            first = await asyncio.to_thread(lambda: recorded_with(robot, storage, environ, dataset__num_episodes="1"))
            await committed(bos, 1)
        await private_s3_server.kill()
        more = {"dataset__num_episodes": "4", "dataset__resume": "true"}
        with recording(robot, *storage, environ=environ, **more) as recorder:
            await asyncio.to_thread(recorder.until, "Episode 4 submitted for saving")
            await asyncio.to_thread(recorder.until, "Stop recording")
            await private_s3_server.start()
            async with up(state, "-c", str(config), environ=environ):
                status = await asyncio.to_thread(recorder.ended)
                info = await committed(bos, 4)

    assert (first.process.returncode, status) == (0, 0), recorder.printed
    assert recorder.has("cannot be asked now; going by what was seen last: "), recorder.printed
    assert recorder.has("episodes wait on this disk"), recorder.printed
    assert cues(recorder) == [f"Recording episode {number}/4" for number in (2, 3, 4)]
    assert info.total_episodes == 4


def test_a_finished_dataset_is_pushed_to_the_hub_with_its_version_tag(tmp_path: Path) -> None:
    with hub_server() as hub, simulated(tmp_path) as robot:
        environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        pushing = {"dataset__num_episodes": "1", "dataset__push_to_hub": "true", "dataset__repo_id": "user/blocks"}
        refused = recorded_with(robot, (), {**environ, "HF_TOKEN": "wrong"}, **pushing)
        pushed = recorded_with(robot, (), environ, **pushing)
        repo = hub.repos["user/blocks"]
    dataset = tmp_path / "hf" / "user" / "blocks"

    assert (refused.process.returncode, pushed.process.returncode) == (1, 0), refused.printed + pushed.printed
    assert cues(refused) == []
    assert repo.files(repo.tags["v2.1"])["meta/info.json"] == (dataset / "meta" / "info.json").read_bytes()


def recorded_with(robot: Robot, arguments: tuple[str, ...], environ: dict[str, str], **flags: str | None) -> Recorder:
    with recording(robot, *arguments, environ=environ, **flags) as recorder:
        recorder.ended()
    return recorder


async def committed(bos: BosConfig, num_episodes: int) -> Info:
    """Wait until the dataset in the bucket has so many episodes, and return its info.json."""
    store = await open_store(f"s3://{bos.bucket}", bos)
    try:
        async with asyncio.timeout(60):
            while True:
                state = await dataset_state(store, "datasets/lab/blocks/")
                if state is not None and state.info.total_episodes >= num_episodes:
                    return state.info
                await asyncio.sleep(0.1)
    finally:
        await store.close()


def _lengths(robot: Robot) -> list[int]:
    lines = (robot.folder / "hf" / "lab" / "blocks" / "meta" / "episodes.jsonl").read_text().splitlines()
    return [json.loads(line)["length"] for line in lines]
