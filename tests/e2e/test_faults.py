"""Nothing lost, nothing twice: whatever is killed, replayed, slowed or full, the datasets equal those of a quiet run."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from pathlib import Path

import msgspec
import pytest

from cli.s3_server import S3Server
from tests.e2e.faults import Lab, Replayer, announce, opened_lab, send_raw, until, write_raw
from tests.e2e.turmoil import KILLED, Turmoil, has_own_disk


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """How large a run is."""

    num_episodes: int
    deeds: tuple[str, ...]
    announce_pause_s: float
    longest_pause_s: float
    deadline_s: float
    seed: int = 7


SHORT = Scale(
    num_episodes=12,
    deeds=("converter", "converter", "uploader", "uploader", "scanner", "nats", "valkey", "s3", "pause", "faulty store"),
    announce_pause_s=0.3,
    longest_pause_s=0.8,
    deadline_s=80,
)


LONG = Scale(
    num_episodes=200,
    deeds=KILLED * 9 + ("pause",) * 5 + ("faulty store",) * 8,
    announce_pause_s=1.2,
    longest_pause_s=3.0,
    deadline_s=900,
)
OUTAGE_S = 120.0


async def started(lab: Lab) -> None:
    for service in lab.services.values():
        await service.start()


async def stopped(lab: Lab) -> None:
    statuses = await asyncio.gather(*(service.stop() for service in lab.services.values()))
    assert statuses == [0] * len(statuses)


def names_in(raw: Path) -> list[str]:
    return sorted(path.name for path in raw.iterdir())


async def quiet_datasets(folder: Path, raw: Path, s3: S3Server) -> dict[str, str]:
    """Return what the episodes become while nothing happens."""
    names = await asyncio.to_thread(names_in, raw)
    async with opened_lab(folder, s3, seed=0) as lab:
        await send_raw(raw, lab)
        await announce(lab, names, pause_s=0)
        for service in lab.services.values():
            if service.name != "scanner":
                await service.start()
        await settled(lab, len(names), deadline_s=60 + len(names))
        return await lab.datasets()


async def settled(lab: Lab, num_episodes: int, *, deadline_s: float) -> None:
    """Wait until every dataset is complete and nobody has anything left to do."""
    state: list[int] = []

    async def is_settled() -> bool:
        state[:] = [await lab.num_unsettled(), await lab.num_on("failed")]
        assert not state[1], await lab.failures()
        if state[0]:
            return False
        state.append(await lab.num_complete())
        return state[2] == num_episodes

    await until(is_settled, deadline_s=deadline_s, what=lambda: f"(unsettled, failed, complete: {state} of {num_episodes})")


async def disturbed(lab: Lab, raw: Path, scale: Scale) -> tuple[Turmoil, Replayer]:
    """Let the episodes flow through a lab that is being harmed, until all is quiet again."""
    names = await asyncio.to_thread(names_in, raw)
    turmoil = Turmoil(lab, seed=scale.seed, longest_pause_s=scale.longest_pause_s)
    replayer = Replayer(lab)
    await send_raw(raw, lab)
    await started(lab)
    replaying = asyncio.create_task(replayer.run())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(announce(lab, names[::2], pause_s=scale.announce_pause_s))  # the scanner finds the others
            group.create_task(turmoil.run(list(scale.deeds)))
        await settled(lab, scale.num_episodes, deadline_s=scale.deadline_s)
    finally:
        replaying.cancel()
        await asyncio.gather(replaying, return_exceptions=True)
    while await replayer.step():
        pass
    await settled(lab, scale.num_episodes, deadline_s=scale.deadline_s)
    return turmoil, replayer


async def judged(lab: Lab, quiet: dict[str, str], scale: Scale) -> None:
    """Make sure that the end is the end of the quiet run."""

    async def is_tidy() -> bool:
        return not [path for path in lab.leftovers() if "/.work/" not in path and "temp/work/" not in path]

    await until(is_tidy, deadline_s=20, what=lambda: f"left: {lab.leftovers()}")
    await stopped(lab)
    completed = await lab.num_completed()
    uncounted = {line["episode_id"] for line in lab.lines("ledger.unavailable") if line.get("state") == "completed"}

    assert await lab.datasets() == quiet
    assert await lab.failures() == []
    assert await lab.num_unsettled() == 0
    assert lab.leftovers() == []
    assert await lab.multipart_uploads() == []
    assert scale.num_episodes - len(uncounted) <= completed <= scale.num_episodes, uncounted


async def test_whatever_is_killed_replayed_or_slowed_the_datasets_equal_those_of_a_quiet_run(
    tmp_path: Path, private_s3_server: S3Server
) -> None:
    raw = await asyncio.to_thread(write_raw, tmp_path / "raw", SHORT.num_episodes)
    quiet = await quiet_datasets(tmp_path / "quiet", raw, private_s3_server)
    async with opened_lab(tmp_path / "disturbed", private_s3_server, seed=SHORT.seed) as lab:
        turmoil, replayer = await disturbed(lab, raw, SHORT)
        await judged(lab, quiet, SHORT)

    assert turmoil.kills.total() == 8
    assert replayer.count >= 2 * SHORT.num_episodes


async def test_without_redis_from_beginning_to_end_everything_is_converted_and_uploaded(tmp_path: Path, s3_server: S3Server) -> None:
    raw = await asyncio.to_thread(write_raw, tmp_path / "raw", 3)
    async with opened_lab(tmp_path / f"no-redis-{uuid.uuid4().hex[:8]}", s3_server, seed=1) as lab:
        await lab.valkey.kill()
        await send_raw(raw, lab)
        await started(lab)
        await announce(lab, [f"episode_{index:04d}" for index in range(3)], pause_s=0)
        await settled(lab, 3, deadline_s=60)
        datasets = await lab.datasets()
        await stopped(lab)

        assert len([key for key in datasets if key.endswith("meta/info.json")]) == 3
        assert lab.lines("ledger.unavailable") != []


@pytest.mark.soak
@pytest.mark.timeout(3000)
async def test_two_hundred_episodes_through_fifty_kills(
    tmp_path: Path, private_s3_server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = await asyncio.to_thread(write_raw, tmp_path / "raw", LONG.num_episodes)
    quiet = await quiet_datasets(tmp_path / "quiet", raw, private_s3_server)
    started_s = time.monotonic()
    async with opened_lab(tmp_path / "disturbed", private_s3_server, seed=LONG.seed, is_spool_small=True) as lab:
        is_small = has_own_disk(lab)
        scale = msgspec.structs.replace(LONG, deeds=LONG.deeds + ("full disk",) * (5 if is_small else 0))
        turmoil, replayer = await disturbed(lab, raw, scale)
        duration_s = time.monotonic() - started_s
        with capsys.disabled():
            sys.stdout.write(await report(lab, quiet, turmoil=turmoil, replayer=replayer, duration_s=duration_s))
        await judged(lab, quiet, scale)

    assert turmoil.kills.total() >= 50


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_an_outage_of_the_store_of_two_minutes_needs_no_human(tmp_path: Path, private_s3_server: S3Server) -> None:
    raw = await asyncio.to_thread(write_raw, tmp_path / "raw", 8)
    names = [f"episode_{index:04d}" for index in range(8)]
    async with opened_lab(tmp_path / "outage", private_s3_server, seed=1) as lab:
        await send_raw(raw, lab)
        await started(lab)
        await announce(lab, names[:4], pause_s=0)
        await until(lab.num_complete, deadline_s=60)
        await private_s3_server.kill()
        await announce(lab, names[4:], pause_s=0)
        await asyncio.sleep(OUTAGE_S)
        await private_s3_server.start()
        await settled(lab, 8, deadline_s=400)
        await stopped(lab)

        assert await lab.num_completed() == 8
        assert lab.leftovers() == []


async def report(lab: Lab, quiet: dict[str, str], *, turmoil: Turmoil, replayer: Replayer, duration_s: float) -> str:
    """Return what the long run prints."""
    datasets = await lab.datasets()
    episodes = {key.split("/")[1] for key in quiet}
    equal = [name for name in episodes if files_of(name, datasets) == files_of(name, quiet)]
    handled = lab.lines("message.handled")
    num_redelivered = sum(line["attempt"] > 1 for line in handled)
    num_suppressed = sum([await lab.num_on(stage) - len(episodes) for stage in ("ready", "converted")])
    lines = {
        "episodes equal": f"{len(equal)} of {len(episodes)} ({len(datasets)} files)",
        "kills": f"{turmoil.kills.total()}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(turmoil.kills.items())),
        "other harm": ", ".join(f"{kind} {count}" for kind, count in sorted(turmoil.others.items())),
        "faulty answers of the store": ", ".join(f"{kind} {count}" for kind, count in sorted(lab.proxy.counts.items())),
        "replayed messages": replayer.count,
        "messages handled": len(handled),
        "redeliveries": num_redelivered,
        "duplicates suppressed": num_suppressed,
        "counted as completed": await lab.num_completed(),
        "seconds": round(duration_s),
    }
    return "\n" + "\n".join(f"{name:>28}  {value}" for name, value in lines.items()) + "\n"


def files_of(episode: str, datasets: dict[str, str]) -> dict[str, str]:
    return {key: digest for key, digest in datasets.items() if key.split("/")[1] == episode}
