"""Nothing lost, nothing twice: whatever is killed, replayed, slowed or full, the datasets equal those of a quiet run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from cli.s3_server import S3Server
from tests.e2e.faults import Lab, Replayer, announce, opened_lab, send_raw, until, write_raw
from tests.e2e.turmoil import Turmoil


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


async def started(lab: Lab) -> None:
    for service in lab.services.values():
        await service.start()


async def stopped(lab: Lab) -> None:
    statuses = await asyncio.gather(*(service.stop() for service in lab.services.values()))
    assert statuses == [0] * len(statuses)


async def quiet_datasets(folder: Path, raw: Path, s3: S3Server) -> dict[str, str]:
    """Return what the episodes become while nothing happens."""
    names = sorted(path.name for path in raw.iterdir())
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
    names = sorted(path.name for path in raw.iterdir())
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
    raw = write_raw(tmp_path / "raw", SHORT.num_episodes)
    quiet = await quiet_datasets(tmp_path / "quiet", raw, private_s3_server)
    async with opened_lab(tmp_path / "disturbed", private_s3_server, seed=SHORT.seed) as lab:
        turmoil, replayer = await disturbed(lab, raw, SHORT)
        await judged(lab, quiet, SHORT)

    assert turmoil.kills.total() == 8
    assert replayer.count >= 2 * SHORT.num_episodes
