"""The recorder as a service: driven over a real bus, with a simulated robot and synthetic cameras."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.recorder.options import record_options
from services.recorder.order import Order, chosen_source
from services.recorder.service import serve
from services.recorder.simulation.robot import SimulatedRobot, simulated_robot, write_calibrations
from shared.connection import NobodyListens
from shared.entry import load
from shared.errors import BadConfig, Refused
from shared.events import EpisodeReady, decode
from tests.cli.labs import Lab, opened_lab

CAMERA = "{ top: {type: opencv, index_or_path: sim://top, width: 320, height: 240, fps: 30, warmup_s: 0} }"
LONG_ENOUGH_S = 0.5


def order(lab: Lab, robot: SimulatedRobot, **flags: str) -> Order:
    write_calibrations(lab.folder / "calibration", robot_id="white")
    ports = robot.ports
    given = {
        "robot.type": "bi_so100_follower", "robot.id": "white", "robot.cameras": CAMERA,
        "robot.left_arm_port": ports["left_follower"], "robot.right_arm_port": ports["right_follower"],
        "teleop.type": "bi_so100_leader", "teleop.id": "white",
        "teleop.left_arm_port": ports["left_leader"], "teleop.right_arm_port": ports["right_leader"],
        "dataset.repo_id": "lab/blocks", "dataset.single_task": "Stack.", "source": "lab",
        **{name.replace("__", "."): value for name, value in flags.items()},
    }  # fmt: skip
    options = record_options([f"--{name}={value}" for name, value in given.items()])
    loaded = load(lab.config, dict(os.environ) | {"HF_LEROBOT_HOME": str(lab.folder / "datasets")})
    environ = {"HF_LEROBOT_CALIBRATION": str(lab.folder / "calibration")}
    source = chosen_source(options, loaded)
    return Order(options=options, loaded=loaded, source=source, folder=lab.folder / "state", environ=environ, is_by_hand=True)


async def ask(lab: Lab, verb: str, body: bytes = b"") -> dict[str, Any]:
    """Send a request as the stock `nats` tool does, and return the answer."""
    answer = await lab.bus.connection.ask(f"episodeflow.recorder.white.{verb}", body, timeout_s=5)
    return dict(msgspec.json.decode(answer))


async def until_waiting(lab: Lab, serving: asyncio.Task[dict[str, int]]) -> None:
    """Wait until the recorder is registered and ready."""
    async with asyncio.timeout(20):
        while not serving.done():
            with suppress(NobodyListens):
                if (await ask(lab, "status"))["phase"] == "waiting":
                    return
            await asyncio.sleep(0.05)
    await serving
    raise AssertionError("the recorder ended")


async def announced(lab: Lab, num: int) -> list[EpisodeReady]:
    """Wait for so many messages on the stream, and return their events."""
    async with asyncio.timeout(10):
        while True:
            info = await lab.bus.stream_info()
            if info is not None and info.state.messages >= num:
                break
            await asyncio.sleep(0.02)
    stored = [await lab.bus.stored(seq) for seq in range(1, num + 1)]
    return [decode(each.body, EpisodeReady) for each in stored if each is not None]


@asynccontextmanager
async def serving(lab: Lab, **flags: str) -> AsyncIterator[asyncio.Task[dict[str, int]]]:
    """Run the service for the block, from when it waits to be asked."""
    stopping = asyncio.Event()
    with simulated_robot() as robot:
        async with AsyncExitStack() as stack:
            task = asyncio.create_task(serve(order(lab, robot, **flags), stopping=stopping, stack=stack))
            try:
                await until_waiting(lab, task)
                yield task
            finally:
                stopping.set()
                await asyncio.wait({task})


async def test_an_episode_is_started_ended_and_announced_on_request(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        async with serving(lab) as task:
            started = await ask(lab, "start", b'{"task": "Fold the shirt."}')
            await asyncio.sleep(LONG_ENOUGH_S)
            stopped = await ask(lab, "stop")
            (event,) = await announced(lab, 1)
        raw = tmp_path / "store" / "raw_datas" / "lab" / event.episode_id

        assert (started["phase"], started["episode"], started["error"]) == ("recording", 1, None)
        assert (stopped["phase"], stopped["episode"], stopped["error"]) == ("waiting", 2, None)
        assert (event.source, event.task, event.dataset) == ("lab", "Fold the shirt.", "lab/blocks")
        assert sorted(path.name for path in (raw / "joints").iterdir()) == [
            "left_master.parquet", "left_slave.parquet", "metadata.json", "right_master.parquet", "right_slave.parquet",
        ]  # fmt: skip
        assert len(list((raw / "images" / "top").iterdir())) >= 10
        assert task.result() == {"kept": 1}


async def test_a_discarded_episode_leaves_nothing_and_its_number_is_taken_again(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        await ask(lab, "start")
        await asyncio.sleep(LONG_ENOUGH_S)
        discarded = await ask(lab, "discard")
        again = await ask(lab, "start")

        assert (discarded["phase"], discarded["episode"]) == ("waiting", 1)
        assert (again["phase"], again["episode"]) == ("recording", 1)
        assert len(list((tmp_path / "state" / "recording").iterdir())) == 1


@pytest.mark.parametrize(
    ("verbs", "error"),
    [
        (["stop"], "the recorder is waiting, expected it to be recording: ask for its status"),
        (["discard"], "the recorder is waiting, expected it to be recording: ask for its status"),
        (["start", "start"], "the recorder is recording, expected it to be waiting: ask for its status"),
    ],
)
async def test_what_cannot_be_done_now_is_answered_with_a_sentence(tmp_path: Path, verbs: list[str], error: str) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        answers = [await ask(lab, verb) for verb in verbs]

        assert answers[-1]["error"] == error


async def test_requests_that_come_together_do_what_they_mean_or_say_that_they_cannot(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        await ask(lab, "start")
        await asyncio.sleep(LONG_ENOUGH_S)
        discarded, stopped = await asyncio.gather(ask(lab, "discard"), ask(lab, "stop"))
        after = await ask(lab, "status")

        assert (discarded["error"], after["phase"], after["episode"]) == (None, "waiting", 1)
        assert stopped["error"]


async def test_an_episode_that_is_ended_at_once_is_not_left_running(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        await ask(lab, "start")
        await ask(lab, "stop")

        assert (await ask(lab, "status"))["phase"] == "waiting"


async def test_a_second_recorder_of_one_name_is_refused(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        with simulated_robot() as robot:
            again = msgspec.structs.replace(order(lab, robot), folder=tmp_path / "again")
            async with AsyncExitStack() as stack:
                with pytest.raises(Refused, match=r"another recorder answers on episodeflow\.recorder\.white\.status"):
                    await serve(again, stopping=asyncio.Event(), stack=stack)

        assert (await ask(lab, "status"))["phase"] == "waiting"


async def test_a_request_that_is_no_json_is_answered_with_a_sentence(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        answer = await ask(lab, "start", b"{task")

        assert answer["error"].startswith('the request is no {"task": "…"}: JSON is malformed')
        assert answer["phase"] == "waiting"


@pytest.mark.parametrize("task", ["   ", "x" * 5000])
async def test_a_task_that_the_converter_would_refuse_is_refused_at_once(tmp_path: Path, task: str) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab):
        answer = await ask(lab, "start", msgspec.json.encode({"task": task}))

        assert answer["error"].startswith("task ")
        assert answer["phase"] == "waiting"


async def test_no_more_episodes_are_started_than_the_dataset_shall_have(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab, serving(lab, dataset__num_episodes="1"):
        await ask(lab, "start")
        await asyncio.sleep(LONG_ENOUGH_S)
        await ask(lab, "stop")
        refused = await ask(lab, "start")

        assert refused["error"] == "1 of 1 episodes are there: raise --dataset.num_episodes to record more"


async def test_a_source_that_is_not_configured_is_refused(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        with simulated_robot() as robot, pytest.raises(BadConfig, match="--source: attic is not configured: expected one of lab, other"):
            order(lab, robot, source="attic")
