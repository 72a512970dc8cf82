"""What a recording hears of its episodes, as a user who may listen, as one who may not, and without a bus."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cli.hearing import failed_episodes, listening, noted_here
from cli.recording import order_of, own_wish
from cli.servers import NatsServer, NatsUser
from cli.state import StateFolder
from cli.terminal import Terminal
from services.recorder.journal import Journal, RecordedEpisode
from services.recorder.recording import Recording
from shared.bus import Bus
from shared.config import RedisConfig
from shared.connection import Incoming
from shared.entry import Loaded, load
from shared.ledger import Ledger
from shared.settings import Secret
from tests.cli.labs import Lab, opened_lab
from tests.services.recorder.arrangements import options


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(tmp_path) as opened:
        yield opened


async def test_events_are_heard_while_the_block_runs(lab: Lab) -> None:
    heard: asyncio.Queue[Incoming] = asyncio.Queue()
    async with asyncio.timeout(20), listening(lab.config, {}, heard.put_nowait):
        while heard.empty():
            await lab.fail("episode_1")
            await asyncio.sleep(0.01)

    assert heard.get_nowait().subject == "episode.failed.lab"


async def test_without_a_bus_the_block_runs_all_the_same(lab: Lab, tmp_path: Path) -> None:
    away = tmp_path / "away.yaml"
    document = msgspec.yaml.decode(lab.config.read_bytes())
    away.write_bytes(msgspec.yaml.encode({**document, "nats": {"servers": ["nats://127.0.0.1:9"], "connect_timeout_s": 0.1}}))
    heard: list[Incoming] = []

    async with listening(away, {}, heard.append):
        await asyncio.sleep(0)

    assert heard == []


async def test_for_a_user_who_may_not_listen_the_block_runs_all_the_same(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = NatsUser(name="recorder", password=Secret("r"), publish=("episode.ready.>",), subscribe=("_INBOX_recorder.>",))
    heard: list[Incoming] = []
    async with NatsServer(tmp_path / "limited", users=(user,)) as server:
        limited = tmp_path / "limited.yaml"
        nats = {"servers": [server.url], "user": "recorder", "password": "r"}
        limited.write_bytes(msgspec.yaml.encode({**msgspec.yaml.decode(lab.config.read_bytes()), "nats": nats}))
        async with listening(limited, {}, heard.append), await Bus.connect(server.config("recorder"), name="test") as bus:
            assert bus.is_connected

    assert heard == []
    assert "Traceback" not in capsys.readouterr().err


def recording_of(loaded: Loaded, state: Path, kept: list[str]) -> Recording:
    recording = Recording(order_of(options(), loaded, state, {}), Terminal(keyboard=None, output=io.StringIO()))
    recording.kept += kept
    return recording


def own_stack(folder: Path, redis: RedisConfig) -> Loaded:
    wish = own_wish(options(), StateFolder(folder))
    assert wish.config is not None
    loaded = load(wish.config, {})
    return msgspec.structs.replace(loaded, storage=msgspec.structs.replace(loaded.storage, redis=redis))


async def test_the_ledger_tells_which_kept_episodes_failed(tmp_path: Path, redis_config: RedisConfig, source: str) -> None:
    loaded = own_stack(tmp_path, redis_config)
    bad, good, theirs = (f"{name}-{source}" for name in ("bad", "good", "theirs"))
    async with Ledger(redis_config) as ledger:
        for name, state in ((bad, "failed"), (good, "failed"), (good, "completed"), (theirs, "failed")):
            await ledger.record("robot", name, strategy="nearest", state=state, token=state)  # type: ignore[arg-type]

    found = await failed_episodes(loaded, recording_of(loaded, tmp_path, [bad, good, "unknown"]))

    assert found == [bad]


async def test_without_a_ledger_nothing_is_known_to_have_failed(tmp_path: Path) -> None:
    loaded = own_stack(tmp_path, RedisConfig(host="127.0.0.1", port=9))

    assert await failed_episodes(loaded, recording_of(loaded, tmp_path, ["bad"])) == []


def test_episodes_of_all_robots_of_this_host_are_known(tmp_path: Path) -> None:
    for robot in ("white", "black"):
        episode = RecordedEpisode(episode_id=robot, source="robot", dataset="lab/a", task=None, saved_at=1.0, num_frames=1)
        Journal(tmp_path / "recorder" / robot).note(episode)

    assert noted_here(tmp_path) == {("robot", "white"), ("robot", "black")}
