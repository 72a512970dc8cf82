"""The whole stack over a real S3 server: raw episodes in a bucket, found by the scanner, shared by two converters."""

import asyncio
from pathlib import Path

import msgspec

from cli.s3_server import S3Server
from cli.witness import Witness
from shared.bus import Bus
from shared.config import BosConfig
from shared.events import EpisodeUploaded
from shared.store import Store
from tests.e2e.stacks import run_command, up, write_config
from tests.services.converter.episodes import STRATEGY, write_episode

NUM_EPISODES = 4
OUR_FOLDER = "meta/episodeflow/"


async def uploaded(store: Store, folder: Path) -> None:
    for path in await asyncio.to_thread(lambda: sorted(path for path in folder.rglob("*") if path.is_file())):
        await store.put(path, f"raw_datas/{path.relative_to(folder).as_posix()}")


async def downloaded(store: Store, prefix: str) -> dict[str, bytes]:
    return {found.key.removeprefix(prefix): await store.get_bytes(found.key) async for found in store.list(prefix)}


def content(dataset: dict[str, bytes]) -> dict[str, bytes]:
    """Return what LeRobot reads: all but where the episode came from."""
    return {
        path: body for path, body in dataset.items() if path.startswith(("data/", "videos/", "meta/")) and not path.startswith(OUR_FOLDER)
    }


async def num_ready(bus: Bus) -> int:
    info = await bus.stream_info(subjects="episode.ready.>")
    assert info is not None
    return sum((info.state.subjects or {}).values())


async def local_conversion(folder: Path, raw: Path) -> dict[str, bytes]:
    """Return the files of a dataset that `episodeflow convert` makes of one episode."""
    document = {**STRATEGY, "input": {"data_path": str(raw)}, "output": {"base_path": str(folder / "dataset")}}
    (folder / "local.yaml").write_bytes(msgspec.yaml.encode(document))
    status, out, err = await run_command("convert", "-c", str(folder / "local.yaml"))
    assert status == 0, out + err
    dataset = folder / "dataset"
    return {path.relative_to(dataset).as_posix(): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}


async def test_scanned_episodes_of_a_bucket_are_shared_by_two_converters_and_equal_a_local_conversion(
    tmp_path: Path, s3_server: S3Server, s3_store: Store, bos: BosConfig
) -> None:
    names = [f"episode_{index:04d}" for index in range(NUM_EPISODES)]
    for name in names:
        write_episode(tmp_path / "raw", name, seconds=2.0)
    await uploaded(s3_store, tmp_path / "raw")
    section = {"endpoint": s3_server.endpoint, "bucket": bos.bucket, "scanner": {"settle_s": 1.0, "interval": 3600}}
    config = write_config(tmp_path / "lab", bos=section, sources=["bos"], redis={"max_workers": 1, "host": "nobody.invalid"})
    environ = {"BOS_ACCESS_KEY": s3_server.access_key, "BOS_SECRET_KEY": s3_server.secret_key}
    async with up(tmp_path / "state", "-c", str(config), "--converters", "2", environ=environ) as stack:
        async with await stack.bus() as bus, Witness(bus) as witness, asyncio.timeout(60):
            first = await stack.run("scanner", "--once", environ=environ)
            outcomes = [(await witness.outcome(name)).event for name in names]
            before = await num_ready(bus)
            second = await stack.run("scanner", "--once", environ=environ)
            after = await num_ready(bus)
        shares = [(tmp_path / "state" / "logs" / f"converter-{number}.log").read_text().count('"conversion.started"') for number in (1, 2)]
    datasets = {name: await downloaded(s3_store, f"converted_datas/{name}_nearest/") for name in names}
    (tmp_path / "one").mkdir()
    local = await local_conversion(tmp_path / "one", tmp_path / "raw" / names[0])

    assert first[0] == second[0] == 0, (first, second)
    assert all(isinstance(outcome, EpisodeUploaded) for outcome in outcomes), outcomes
    assert before == after == NUM_EPISODES
    assert sum(shares) == NUM_EPISODES
    assert min(shares) >= 1, shares
    assert all({"meta/info.json", "meta/episodes.jsonl"} <= set(dataset) for dataset in datasets.values())
    assert content(datasets[names[0]]) == content(local)
