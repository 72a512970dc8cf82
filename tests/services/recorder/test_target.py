"""What a recording finds of its dataset, and what it refuses before anything moves."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.recorder.journal import RecordedEpisode
from services.recorder.recipe import expected_info
from services.recorder.target import Stranded, Target, check_target, find_target
from shared.config import BosConfig, RedisConfig
from shared.errors import EpisodeflowError
from shared.ledger import Ledger
from shared.lerobot.commit import commit
from shared.lerobot.info import Info, grown
from shared.places import Place
from shared.settings import Secret
from shared.store import StorePool
from shared.store_object import Patience
from tests.services.recorder.arrangements import options
from tests.shared.lerobot.parts import make_part

AWAY = RedisConfig(host="127.0.0.1", port=9)


def recorded(name: str, source: str, *, age_s: float = 60.0, uri: str | None = None) -> RecordedEpisode:
    fields = {"dataset": "lab/blocks", "task": "Stack.", "saved_at": time.time() - age_s, "num_frames": 8, "dataset_uri": uri}
    return msgspec.convert({"episode_id": name, "source": source, **fields}, RecordedEpisode)


def place(folder: Path) -> Place:
    return Place(f"file://{folder}", "")


async def found(
    folder: Path, *episodes: RecordedEpisode, redis: RedisConfig, bos: BosConfig | None = None, at: Place | None = None
) -> Target:
    async with StorePool(bos or BosConfig(), patience=Patience(connect_timeout_s=1.0, max_attempts=1)) as stores, Ledger(redis) as ledger:
        return await find_target(
            at or place(folder / "dataset"), episodes, stores=stores, ledger=ledger, folder=folder / "recorder", repo_id="lab/blocks"
        )


@pytest.fixture
async def ledger(redis_config: RedisConfig) -> AsyncIterator[Ledger]:
    async with Ledger(redis_config) as opened:
        yield opened


async def test_what_is_recorded_here_counts_until_it_is_committed_or_has_failed(
    tmp_path: Path, redis_config: RedisConfig, ledger: Ledger, source: str
) -> None:
    make_part(tmp_path / "part", source=source, episode_id="one")
    commit(tmp_path / "part", tmp_path / "dataset")
    await ledger.record(source, "bad", strategy="nearest", state="failed", token="x")

    target = await found(tmp_path, *(recorded(name, source) for name in ("one", "two", "bad")), redis=redis_config)

    assert (target.num_committed, target.num_pending, target.num_there) == (1, 1, 2)
    assert target.summary == "1 episodes, 8 frames, 1 tasks; 1 more recorded here are on their way"


async def test_what_was_committed_once_and_removed_by_a_person_does_not_count(
    tmp_path: Path, redis_config: RedisConfig, ledger: Ledger, source: str
) -> None:
    await ledger.record(source, "done", strategy="nearest", state="completed", token="x")
    forgotten = recorded("forgotten", source, age_s=8 * 86_400.0)

    target = await found(tmp_path, recorded("done", source), forgotten, redis=redis_config)

    assert (target.info, target.num_pending) == (None, 0)


async def test_without_a_ledger_a_failed_episode_counts_as_on_its_way(tmp_path: Path) -> None:
    target = await found(tmp_path, recorded("bad", "robot"), redis=AWAY)

    assert (target.info, target.num_pending) == (None, 1)


async def test_what_is_on_its_way_to_another_place_is_counted_there_and_not_here(
    tmp_path: Path, redis_config: RedisConfig, ledger: Ledger, source: str
) -> None:
    make_part(tmp_path / "part", source=source, episode_id="in")
    commit(tmp_path / "part", tmp_path / "old")
    await ledger.record(source, "bad", strategy="nearest", state="failed", token="x")
    old, here = place(tmp_path / "old").uri, place(tmp_path / "dataset").uri
    elsewhere = [recorded(name, source, uri=old) for name in ("in", "bad", "open")]

    target = await found(tmp_path, *elsewhere, recorded("a", source, uri=here), recorded("older", source), redis=redis_config)
    settled = await found(tmp_path, *elsewhere[:2], redis=redis_config)

    assert target.stranded == (Stranded(uri=old, num_pending=1),)
    assert (target.num_pending, settled.stranded) == (2, ())


async def test_a_place_that_cannot_be_read_is_judged_by_the_ledger(
    tmp_path: Path, redis_config: RedisConfig, ledger: Ledger, source: str
) -> None:
    await ledger.record(source, "done", strategy="nearest", state="completed", token="x")
    episodes = [recorded(name, source, uri="s3://gone-bucket/datasets/lab/blocks") for name in ("done", "open")]
    gone = BosConfig(endpoint="http://127.0.0.1:9", bucket="lab", access_key=Secret("a"), secret_key=Secret("b"))

    target = await found(tmp_path, *episodes, redis=redis_config, bos=gone)

    assert [each.num_pending for each in target.stranded] == [1]


async def test_while_the_store_is_away_the_dataset_is_what_was_seen_last(tmp_path: Path, bos: BosConfig) -> None:
    make_part(tmp_path / "part", episode_id="one", source="robot")
    commit(tmp_path / "part", tmp_path / "dataset")
    episodes = [recorded(name, "robot") for name in ("one", "two", "three")]
    seen = await found(tmp_path, *episodes, redis=AWAY)
    gone = BosConfig(endpoint="http://127.0.0.1:9", bucket="lab", access_key=bos.access_key, secret_key=bos.secret_key)

    target = await found(tmp_path, *episodes, redis=AWAY, bos=gone, at=Place("s3://lab", "datasets/lab/blocks/"))

    assert not seen.is_remembered
    assert target.is_remembered
    assert (target.num_committed, target.num_pending) == (1, 2)


def existing(codec: str = "h264", **changes: str | None) -> Info:
    return grown(expected_info(options(**changes), codec=codec), num_episodes=25, num_frames=7500, total_tasks=1)


def target_of(info: Info | None, *, num_pending: int = 0) -> Target:
    return Target(uri="file:///d", info=info, num_pending=num_pending)


@pytest.mark.parametrize("num_pending", [0, 2])
def test_a_recording_that_fits_is_accepted(num_pending: int) -> None:
    resumed, begun = target_of(existing(), num_pending=num_pending), target_of(None)

    check_target(options(dataset__resume="true"), resumed, codec="h264")
    check_target(options(), begun, codec="h264")

    assert (resumed.num_there, begun.num_there) == (25 + num_pending, 0)


@pytest.mark.parametrize("num_pending", [0, 3])
def test_a_service_begins_a_dataset_or_goes_on_with_it(num_pending: int) -> None:
    target = target_of(None, num_pending=num_pending)

    for resume in ("true", "false"):
        check_target(options(dataset__resume=resume), target, codec="h264", is_either=True)

    assert target.num_there == num_pending


@pytest.mark.parametrize(
    ("changes", "target", "sentence"),
    [
        (
            {},
            target_of(existing()),
            "the dataset is there already (file:///d: 25 episodes, 7500 frames, 1 tasks): add --dataset.resume=true",
        ),
        (
            {"dataset.resume": "true"},
            Target(uri="file:///new", info=existing(), stranded=(Stranded(uri="file:///old", num_pending=2),)),
            "2 episodes recorded here for it are still on their way to file:///old, and this recording would go to file:///new: record",
        ),
        ({}, target_of(None, num_pending=1), "0 episodes, 0 frames, 0 tasks; 1 more recorded here are on their way): add"),
        ({"dataset.resume": "true"}, target_of(None), "there is nothing to resume, file:///d has no dataset"),
        (
            {"dataset.resume": "true", "dataset.fps": "60"},
            target_of(existing()),
            "FPS mismatch: existing dataset has fps=30, but you specified fps=60.",
        ),
        (
            {"dataset.resume": "true", "robot.type": "bi_so101_follower"},
            target_of(existing()),
            "Robot type mismatch: existing dataset has robot_type=bi_so100_follower, but you specified robot_type=bi_so101_follower.",
        ),
        (
            {"dataset.resume": "true", "dataset.strategy": "chunking"},
            target_of(existing()),
            "Feature mismatch: existing dataset has action with",
        ),
        (
            {"dataset.resume": "true", "robot.cameras": "{ top: {type: opencv, index_or_path: 1, width: 64, height: 48, fps: 30} }"},
            target_of(existing()),
            "'observation.images.left', 'observation.state', 'task_index', 'timestamp'], but you specified ['action', ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_both_sides(changes: dict[str, str], target: Target, sentence: str) -> None:
    with pytest.raises(EpisodeflowError) as caught:
        check_target(options(**changes), target, codec="h264")

    assert sentence in str(caught.value)
