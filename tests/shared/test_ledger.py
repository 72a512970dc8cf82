"""The ledger on a real Valkey, and without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import redis.asyncio

from cli.servers import ValkeyServer, free_port
from shared.config import RedisConfig
from shared.errors import LedgerUnavailable
from shared.ledger import Ledger, Stats
from shared.settings import Secret


@pytest.fixture
async def ledger(redis_config: RedisConfig, source: str) -> AsyncIterator[Ledger]:
    async with Ledger(redis_config, scan_key=f"scan:{source}") as opened:
        yield opened


async def test_episode_is_claimed_once_until_its_raw_data_changes(ledger: Ledger, source: str) -> None:
    claims = [await ledger.claim_ready(source, "e1", strategy=None, token=token) for token in ("r1", "r1", "r2", "r2")]

    assert claims == [True, False, True, False]


async def test_only_one_of_many_racing_claims_wins(ledger: Ledger, source: str) -> None:
    claims = await asyncio.gather(*(ledger.claim_ready(source, "e1", strategy="window", token="r1") for _ in range(20)))

    assert claims.count(True) == 1


async def test_replayed_completion_counts_once(ledger: Ledger, source: str) -> None:
    for token in ("a", "a", "b"):
        await ledger.record(source, "e1", strategy="nearest", state="completed", token=token)

    assert await ledger.stats(source) == Stats(completed=2, failed=0)


async def test_late_replay_of_an_old_failure_neither_counts_nor_changes_the_state(ledger: Ledger, source: str) -> None:
    await ledger.record(source, "e1", strategy="nearest", state="failed", token="7")
    await ledger.record(source, "e1", strategy="nearest", state="completed", token="d")
    is_new = await ledger.record(source, "e1", strategy="nearest", state="failed", token="7")

    assert not is_new
    assert await ledger.states(source, "e1") == {"nearest": "completed"}
    assert await ledger.stats(source) == Stats(completed=1, failed=1)


async def test_strategies_of_one_episode_are_kept_apart(ledger: Ledger, source: str) -> None:
    await ledger.record(source, "e1", strategy="nearest", state="completed", token="a")
    await ledger.record(source, "e1", strategy="window", state="converted", token="a")

    assert await ledger.states(source, "e1") == {"nearest": "completed", "window": "converted"}
    assert await ledger.stats(source) == Stats(completed=1, failed=0)


async def test_keys_are_those_of_the_contract_and_the_marker_lives_seven_days(
    ledger: Ledger, redis_config: RedisConfig, source: str
) -> None:
    await ledger.record(source, "e1", strategy="nearest", state="completed", token="a")
    password = redis_config.password.reveal() if redis_config.password else None
    client = redis.asyncio.Redis(port=redis_config.port, password=password, decode_responses=True)
    life_s, count = await client.ttl(f"lerobot:processed:{source}:e1"), await client.get(f"lerobot:stats:{source}:completed")
    await client.aclose()

    assert 7 * 86_400 - 60 < life_s <= 7 * 86_400
    assert count == "1"


async def test_scan_position_is_remembered(ledger: Ledger) -> None:
    before = await ledger.scan_position()
    await ledger.set_scan_position("raw_datas/episode_0007/")

    assert (before, await ledger.scan_position()) == (None, "raw_datas/episode_0007/")


async def test_absent_redis_is_reported_quickly(source: str) -> None:
    async with Ledger(RedisConfig(host="127.0.0.1", port=free_port())) as ledger:
        with pytest.raises(LedgerUnavailable, match=r"Redis at 127\.0\.0\.1"):
            await asyncio.wait_for(ledger.ping(), 3)
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(ledger.stats(source), 3)


async def test_silent_redis_is_reported_within_its_timeout(source: str) -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    async with server, Ledger(RedisConfig(host="127.0.0.1", port=server.sockets[0].getsockname()[1])) as ledger:
        with pytest.raises(LedgerUnavailable):
            await asyncio.wait_for(ledger.record(source, "e1", strategy=None, state="failed", token="1"), 10)


async def test_wrong_password_says_which_keys_to_check(redis_config: RedisConfig) -> None:
    async with Ledger(msgspec.structs.replace(redis_config, password=Secret("wrong"))) as ledger:
        with pytest.raises(LedgerUnavailable, match=r"redis\.password"):
            await ledger.ping()


async def test_ledger_works_again_after_redis_was_killed_and_restarted(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path) as server, Ledger(server.config()) as ledger:
        await ledger.record("s", "e1", strategy=None, state="completed", token="a")
        await server.kill()
        with pytest.raises(LedgerUnavailable):
            await ledger.ping()
        await server.restart()
        await ledger.record("s", "e1", strategy=None, state="completed", token="a")

        assert await ledger.stats("s") == Stats(completed=1, failed=0)
