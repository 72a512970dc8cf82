"""Uploaders of two hosts feed one growing dataset, and they and the bus are killed meanwhile: nothing is lost, nothing is torn."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from cli.s3_server import S3Server
from cli.witness import Witness
from shared.config import load_storage
from shared.events import EpisodeConverted, EpisodeReady, EpisodeUploaded
from shared.leases import LEASE_S
from shared.lerobot.check import check_dataset
from shared.lerobot.info import read_info
from shared.lerobot.records import ProvenanceLine, read_lines
from shared.provision import provision, provision_plan
from shared.store import open_store
from tests.e2e.faults import Lab, _ended, opened_lab, until
from tests.e2e.processes import ServiceProcess
from tests.e2e.stacks import up, write_config
from tests.services.converter.episodes import write_episode
from tests.services.uploader.hosts import fetched, problems, put_part

SPOOLS = ("default", "other")


@asynccontextmanager
async def opened_uploaders(folder: Path, s3: S3Server, *, is_bucket: bool) -> AsyncIterator[tuple[Lab, list[ServiceProcess]]]:
    """Give a lab, and the uploaders of two hosts with a spool each, not started."""
    store = None if is_bucket else (folder / "store").as_uri()
    async with opened_lab(folder, s3, seed=1, store=store) as lab:
        environ = {**lab.environ(), "HF_LEROBOT_HOME": str(folder / "hf/datasets")}
        uploaders = []
        for name in SPOOLS:
            document = msgspec.yaml.decode(lab.config.read_bytes())
            document["conversion"]["spool"] = {"name": name, "path": str(folder / f"spool-{name}")}
            config = folder / f"{name}.yaml"
            config.write_bytes(msgspec.yaml.encode(document))
            await provision(lab.bus, provision_plan(load_storage(config, {})[0]))
            uploaders.append(ServiceProcess(f"uploader-{name}", "uploader", config=config, environ=environ))
        try:
            yield lab, uploaders
        finally:
            for uploader in uploaders:
                await _ended(uploader)


async def put_parts(lab: Lab, num_parts: int) -> None:
    """Leave parts in both spools in turn and publish their events."""
    for seed in range(num_parts):
        name = SPOOLS[seed % 2]
        event = await asyncio.to_thread(put_part, lab.folder / f"spool-{name}", "lab", seed=seed)
        event = msgspec.structs.replace(event, spool=name)
        assert isinstance(event, EpisodeConverted)
        await lab.bus.publish(event, message_id=f"converted:{seed}")


async def grown(lab: Lab, *, is_bucket: bool) -> Path:
    """Return the finished dataset as a folder, checked."""
    bos = lab.s3.bos_config(lab.bucket)
    store = await open_store(f"s3://{lab.bucket}" if is_bucket else (lab.folder / "hf").as_uri(), bos)
    try:
        assert await problems(store, lab.folder / "checked") == []
        return await fetched(store, lab.folder / "fetched")
    finally:
        await store.close()


async def fed(lab: Lab, uploaders: list[ServiceProcess], *, num_parts: int, deeds: tuple[str, ...]) -> None:
    """Let both uploaders work until everything is in, and do the deeds while they work."""
    chosen = random.Random(7)
    for uploader in uploaders:
        await uploader.start()
    for number, deed in enumerate(deeds):

        async def has_come_far(wanted: int = (number + 1) * num_parts // (len(deeds) + 2)) -> bool:
            return await lab.num_on("uploaded") >= wanted

        await until(has_come_far, deadline_s=90)
        await done(deed, lab, chosen.choice(uploaders))

    async def is_done() -> bool:
        return not await lab.num_unsettled() and await lab.num_on("uploaded") >= num_parts

    await until(is_done, deadline_s=110, what=lambda: "until everything is uploaded")


async def done(deed: str, lab: Lab, victim: ServiceProcess) -> None:
    match deed:
        case "kill":
            await victim.kill()
            await victim.start()
        case "pause":
            victim.pause()
            await asyncio.sleep(1.3 * LEASE_S)  # the time itself is the point: its lease runs out
            victim.resume()
        case "nats":
            await lab.nats.kill()
            await lab.nats.restart()


@pytest.mark.parametrize("is_bucket", [False, True], ids=["folder", "bucket"])
@pytest.mark.parametrize(
    ("num_parts", "deeds"), [(16, ("kill", "nats")), pytest.param(60, ("kill", "pause", "nats", "kill", "pause"), marks=pytest.mark.soak)]
)
async def test_uploaders_of_two_hosts_that_are_killed_make_one_continuous_dataset(
    tmp_path: Path, s3_server: S3Server, num_parts: int, deeds: tuple[str, ...], *, is_bucket: bool
) -> None:
    folder = tmp_path / f"growing-{uuid.uuid4().hex[:8]}"
    async with opened_uploaders(folder, s3_server, is_bucket=is_bucket) as (lab, uploaders):
        await put_parts(lab, num_parts)
        await fed(lab, uploaders, num_parts=num_parts, deeds=deeds)
        found = await grown(lab, is_bucket=is_bucket)
        for uploader in uploaders:
            await uploader.stop()

        assert read_info(found).total_episodes == num_parts
        lines = read_lines(found / "meta/episodeflow/episodes.jsonl", ProvenanceLine)
        assert [line.episode_index for line in lines] == list(range(num_parts))
        assert sorted(line.episode_id for line in lines) == sorted(f"ep{seed}" for seed in range(num_parts))
        assert await lab.failures() == []
        left = [path for name in SPOOLS for path in (folder / f"spool-{name}").rglob("*") if path.is_file()]
        assert {path.name for path in left} <= {".datasets.json"}


async def test_the_embedded_stack_grows_a_dataset_where_lerobot_looks_for_it(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", sources=["lab"])
    async with up(tmp_path / "state", "-c", str(config), environ={"HF_LEROBOT_HOME": str(tmp_path / "hf")}) as stack:
        async with await stack.bus() as bus, Witness(bus) as witness, asyncio.timeout(40):
            for name in ("e1", "e2"):
                write_episode(tmp_path / "state" / "store" / "raw_datas", name)
                await bus.publish(EpisodeReady(episode_id=name, source="lab", dataset="me/stack"), message_id=name)
            found = [(await witness.outcome(name)).event for name in ("e1", "e2")]
        report = check_dataset(tmp_path / "hf/me/stack")

    assert (report.problems, report.episodes) == ((), 2)
    assert {event.episode_index for event in found if isinstance(event, EpisodeUploaded)} == {0, 1}
