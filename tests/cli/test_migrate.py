"""`episodeflow migrate`: from the lists of the old design onto a real stream."""

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio

from cli.migrate import task_event
from cli.servers import ValkeyServer
from shared.errors import BadEvent
from tests.cli.labs import Lab, opened_lab

TASK = {
    "episode_id": "episode_0001",
    "source": "lab",
    "strategy": "chunking",
    "config_overrides": {"video.crf": 18},
    "timestamp": 1700000000.5,
}


class Old:
    """The two lists of a test, under names of their own."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.waiting, self.failed = (f"{name}:{uuid.uuid4().hex}" for name in ("lerobot:episodes", "lerobot:failed"))
        self.options = ("--waiting", self.waiting, "--failed", self.failed)

    async def push(self, key: str, *items: object) -> None:
        await self.client.rpush(key, *(item if isinstance(item, bytes) else json.dumps(item) for item in items))  # type: ignore[misc]

    async def left(self) -> list[bytes]:
        return [*await self.client.lrange(self.waiting, 0, -1), *await self.client.lrange(self.failed, 0, -1)]  # type: ignore[misc]


@pytest.fixture
async def old(valkey_server: ValkeyServer) -> AsyncIterator[Old]:
    client = redis.asyncio.Redis(host="127.0.0.1", port=valkey_server.port, password=valkey_server.password.reveal())
    yield Old(client)
    await client.aclose()


@pytest.fixture
async def lab(tmp_path: Path, valkey_server: ValkeyServer) -> AsyncIterator[Lab]:
    async with opened_lab(tmp_path, valkey_server) as opened:
        yield opened


async def test_tasks_of_both_lists_arrive_on_the_stream_and_leave_redis(lab: Lab, old: Old) -> None:
    await old.push(old.waiting, TASK, {**TASK, "episode_id": "episode_0002", "source": "other", "retries": 3})
    await old.push(old.failed, {"task": {**TASK, "episode_id": "episode_0003"}, "error": "boom", "failed_at": 1})

    result = await lab.run("migrate", *old.options)

    assert (result.exit_code, await old.left()) == (0, [])
    assert await lab.subjects() == {"episode.ready.lab": 2, "episode.ready.other": 1}
    stored = await lab.bus.stored(1)
    assert stored is not None
    assert {key: value for key, value in json.loads(stored.body).items() if key in TASK} == TASK


async def test_unreadable_items_stay_and_are_named(lab: Lab, old: Old) -> None:
    bad = [
        b"not json",
        b"\xff\xfe",
        json.dumps({"episode_id": "../etc", "source": "lab"}).encode(),
        json.dumps({**TASK, "source": "gone"}).encode(),
    ]
    await old.push(old.waiting, *bad, TASK)

    result = await lab.run("migrate", *old.options)

    assert (result.exit_code, await old.left()) == (1, bad)
    assert "1 of 5 tasks moved" in result.stdout
    assert all(word in result.stderr for word in ("not json", "../etc", "'gone' is not configured"))


async def test_run_that_was_stopped_before_the_removal_publishes_nothing_twice(lab: Lab, old: Old) -> None:
    for _ in range(2):
        await old.push(old.waiting, TASK)
        await lab.run("migrate", *old.options)

    assert (await lab.subjects(), await old.left()) == ({"episode.ready.lab": 1}, [])


async def test_dry_run_moves_nothing(lab: Lab, old: Old) -> None:
    await old.push(old.waiting, TASK)

    result = await lab.run("migrate", "--dry-run", *old.options)

    assert result.stdout.startswith('episode.ready.lab {"episode_id":"episode_0001"')
    assert (await lab.subjects(), len(await old.left())) == ({}, 1)


async def test_lists_that_are_not_there_are_nothing_to_move(lab: Lab, old: Old) -> None:
    result = await lab.run("migrate", *old.options)

    assert (result.exit_code, f"{old.waiting}: 0 of 0 tasks moved" in result.stdout) == (0, True)


@pytest.mark.parametrize("item", ["", "[]", "null", '{"task": "stack"}', "[" * 10_000])
def test_what_is_no_task_is_refused(item: str) -> None:
    with pytest.raises(BadEvent):
        task_event(item)


def test_task_text_of_a_plain_task_is_not_taken_for_a_wrapped_one() -> None:
    assert task_event(json.dumps({**TASK, "task": "stack the cubes"})).task == "stack the cubes"
