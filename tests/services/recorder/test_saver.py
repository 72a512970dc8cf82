"""The saver with real servers: episodes become durable, reach the store, are announced in order, and survive every death."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cli.s3_server import S3Server
from cli.servers import NatsServer
from services.converter import raw
from services.converter.assignment import RawEpisode
from services.recorder.saving.news import Announced, Flowing, HeldBack, Removed, Restarted, Saved, Unsaved, Waiting
from services.recorder.saving.outbox import recorded_episodes
from services.scanner.service import Scanner
from shared.bus import Bus
from shared.config import RedisConfig, ScannerConfig
from shared.entry import load
from shared.episode import ArmConfig
from shared.errors import BadConfig, BadRaw, Refused, WorkerCrashed
from shared.ledger import Ledger
from shared.store import StorePool
from tests.fixtures_bus import ServerFactory
from tests.services.recorder.saving.buckets import bucket_lab
from tests.services.recorder.saving.labs import CAMERAS, DATASET, RecorderLab, arms, eventually, image_of


@pytest.fixture
async def lab(tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str) -> RecorderLab:
    """A lab on the servers of the session."""
    made = RecorderLab(tmp_path, nats=nats_server, redis=redis_config, source=source)
    await made.provision()
    return made


@pytest.fixture
async def private_lab(tmp_path: Path, private_nats: ServerFactory, redis_config: RedisConfig) -> tuple[RecorderLab, NatsServer]:
    """A lab whose nats-server the test may kill."""
    server = await private_nats()
    made = RecorderLab(tmp_path, nats=server, redis=redis_config, source="lab")
    await made.provision()
    return made, server


async def test_an_episode_reaches_the_store_as_the_converter_reads_it_and_leaves_the_outbox(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        saved = await saver.save(lab.record("e1"))
        await saver.drained()

        assert (saved.episode_id, saver.num_waiting, lab.outbox()) == ("e1", 0, [])
    folder = lab.raw("e1")
    episode = RawEpisode(episode_id="e1", joints=folder / "joints", images=folder / "images")
    frames = [raw.list_frames(episode, camera) for camera in CAMERAS]
    assert [found.read(5) for found in frames if found] == [image_of("e1", camera, 5) for camera in CAMERAS]
    for arm in arms():
        samples = raw.ArmSamples(episode, ArmConfig(name=arm.arm, role="slave"), 7)
        [(times_us, values)] = samples.batches()
        samples.close()
        assert (times_us == arm.times_us).all()
        assert (values == arm.values).all()
    metadata = msgspec.json.decode((folder / "joints" / "metadata.json").read_bytes())
    assert (metadata["robot_type"], metadata["source"], metadata["dataset"]) == ("lab", lab.source, DATASET)
    assert saved.num_bytes > sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    [event] = await lab.ready_events()
    assert (event.episode_id, event.dataset, event.task, event.raw) == ("e1", DATASET, "Stack.", None)


async def test_the_scanner_does_not_announce_what_the_recorder_announced(lab: RecorderLab, bus: Bus, redis_config: RedisConfig) -> None:
    async with lab.saver() as saver:
        await saver.save(lab.record("e1", strategy="chunking"))
        await saver.drained()
    loaded = load(lab.config_path, {})
    cameras = [msgspec.structs.replace(loaded.strategy.cameras[0], name=CAMERAS[0])]
    strategy = msgspec.structs.replace(loaded.strategy, cameras=tuple(cameras))
    config = ScannerConfig(settle_s=0.0, min_episode_files=1, incremental_key=f"scan:{lab.source}")
    async with StorePool(loaded.storage.bos) as stores, Ledger(redis_config, scan_key=config.incremental_key) as ledger:
        scanner = Scanner(bus=bus, ledger=ledger, stores=stores, places=loaded.places(), config=config, strategy=strategy)
        summary = await scanner.scan(is_full=True)

    assert (summary.found, summary.waiting, summary.published) == (1, (), ())
    assert await lab.ready_ids() == ["e1"]


async def test_many_episodes_at_once_are_announced_in_the_order_of_recording(lab: RecorderLab) -> None:
    names = [f"e{9 - index}" for index in range(6)]
    async with lab.saver() as saver:
        await asyncio.gather(*(saver.save(lab.record(name)) for name in names))
        await saver.drained()

    assert await lab.ready_ids() == names
    assert [news.episode_id for news in lab.told(Announced)] == names
    assert [line.episode_id for line in recorded_episodes(lab.folder, DATASET)] == names


# --- deaths of the saver --------------------------------------------------------------------------------------


async def test_a_saver_that_dies_at_any_moment_loses_and_doubles_nothing(lab: RecorderLab) -> None:
    chance = random.Random(11)
    names = [f"e{index:02d}" for index in range(15)]
    async with lab.saver() as saver:
        saving = []
        for num_deaths in range(1, 6):
            await eventually(lambda: saver.pid is not None)
            for name in names[3 * num_deaths - 3 : 3 * num_deaths]:
                saving.append(asyncio.create_task(saver.save(lab.record(name))))
                await asyncio.sleep(chance.uniform(0, 0.12))  # another moment each time: while it starts, saves or delivers
            assert saver.pid is not None
            os.kill(saver.pid, signal.SIGKILL)
            await lab.wait_for(Restarted, count=num_deaths)
        await asyncio.gather(*saving)
        await saver.drained()

    assert sorted(news.episode_id for news in lab.told(Saved)) == names
    assert await lab.ready_ids() == names
    assert [len(list(lab.raw(name).rglob("*.jpg"))) for name in names] == [12] * 15
    assert lab.outbox() == []


async def test_a_saver_killed_between_store_and_bus_announces_at_the_next_start(private_lab: tuple[RecorderLab, NatsServer]) -> None:
    lab, server = private_lab
    async with lab.saver() as saver:
        await server.kill()
        await saver.save(lab.record("e1"))
        await eventually(lab.raw("e1").exists)
        assert saver.pid is not None
        os.kill(saver.pid, signal.SIGKILL)
        await lab.wait_for(Restarted)
    waiting = lab.outbox()
    await server.restart()
    async with lab.saver() as saver:
        await saver.drained()

    assert waiting == ["e1"]
    assert await lab.ready_ids() == ["e1"]
    assert lab.outbox() == []


async def test_an_episode_over_which_the_saver_dies_again_and_again_fails_loudly(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        finished = lab.record("e1")
        (finished.folder / "raw").mkdir()
        (finished.folder / "raw" / "joints").touch()  # no joints can be written here: it is tried for ever
        saving = asyncio.create_task(saver.save(finished))
        for count in range(1, 4):
            await lab.wait_for(Unsaved, count=count)
            assert saver.pid is not None
            os.kill(saver.pid, signal.SIGKILL)
            await lab.wait_for(Restarted, count=count)

        with pytest.raises(WorkerCrashed, match="died 3 times"):
            await saving


async def test_ctrl_c_in_the_terminal_and_a_supervisors_signal_do_not_reach_the_saver(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        assert saver.pid is not None
        os.kill(saver.pid, signal.SIGINT)
        os.kill(saver.pid, signal.SIGTERM)
        await saver.save(lab.record("e1"))

        assert os.getpgid(saver.pid) != os.getpgid(0)
    assert lab.told(Restarted) == []


async def test_a_killed_recorder_takes_its_saver_along_and_the_next_one_goes_on(private_lab: tuple[RecorderLab, NatsServer]) -> None:
    lab, server = private_lab
    await server.kill()
    command = [sys.executable, "-m", "tests.services.recorder.saving.recorder", str(lab.folder), str(lab.config_path), lab.source]
    recorder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert recorder.stdout is not None
    saver_pid = int(await recorder.stdout.readline())
    recorder.kill()
    await recorder.wait()
    await eventually(lambda: not Path(f"/proc/{saver_pid}").exists())
    await server.restart()
    async with lab.saver() as saver:
        await saver.drained()

    assert [removed.episode_id for removed in lab.told(Removed)] == ["e2"]
    assert await lab.ready_ids() == ["e1"]


# --- outages --------------------------------------------------------------------------------------------------


async def test_without_nats_from_the_start_everything_waits_and_goes_out_in_order_when_it_comes(
    private_lab: tuple[RecorderLab, NatsServer],
) -> None:
    lab, server = private_lab
    await server.kill()
    async with lab.saver() as saver:
        for name in ("e3", "e2", "e1"):
            await saver.save(lab.record(name))
        [waiting] = await lab.wait_for(Waiting)
        num_waiting = saver.num_waiting
        await server.restart()
        await saver.drained()

        assert num_waiting == 3
        assert "127.0.0.1" in waiting.reason
    assert len(lab.told(Waiting)) == len(lab.told(Flowing)) == 1
    assert await lab.ready_ids() == ["e3", "e2", "e1"]


async def test_nats_away_for_three_episodes_is_told_once_and_all_are_announced_when_it_is_back(
    private_lab: tuple[RecorderLab, NatsServer],
) -> None:
    lab, server = private_lab
    async with lab.saver() as saver:
        await saver.save(lab.record("e0"))
        await saver.drained()
        await server.kill()
        for name in ("e1", "e2", "e3"):
            await saver.save(lab.record(name))
        await lab.wait_for(Waiting)
        await server.restart()
        await saver.drained()

    assert len(lab.told(Waiting)) == len(lab.told(Flowing)) == 1
    assert await lab.ready_ids() == ["e0", "e1", "e2", "e3"]


async def test_a_bucket_away_for_three_episodes_gets_them_all_in_order_when_it_is_back(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str, private_s3_server: S3Server
) -> None:
    lab = await bucket_lab(tmp_path, nats_server, redis_config, source, private_s3_server)
    async with lab.saver() as saver:
        await private_s3_server.kill()
        for name in ("e1", "e2", "e3"):
            await saver.save(lab.record(name))
        await lab.wait_for(Waiting)
        announced_meanwhile = lab.told(Announced)
        await private_s3_server.start()
        await saver.drained()

    assert announced_meanwhile == []
    assert await lab.ready_ids() == ["e1", "e2", "e3"]
    assert lab.outbox() == []


async def test_a_full_disk_keeps_the_episode_until_there_is_room(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        assert saver.pid is not None
        before = resource.prlimit(saver.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        saving = asyncio.create_task(saver.save(lab.record("e1")))
        [unsaved] = await lab.wait_for(Unsaved)
        is_saved_meanwhile = saving.done()
        resource.prlimit(saver.pid, resource.RLIMIT_FSIZE, before)
        await saving
        await saver.drained()

    assert "the disk is full" in unsaved.sentence
    assert not is_saved_meanwhile
    assert await lab.ready_ids() == ["e1"]


# --- what is refused ------------------------------------------------------------------------------------------


async def test_an_episode_that_the_store_holds_already_does_not_block_those_behind_it(lab: RecorderLab) -> None:
    (lab.raw("e1") / "joints").mkdir(parents=True)
    (lab.raw("e1") / "joints" / "metadata.json").write_text("{}")
    async with lab.saver() as saver:
        await saver.save(lab.record("e1"))
        await saver.save(lab.record("e2"))
        await saver.drained()

        assert saver.num_waiting == 1
    [held_back] = lab.told(HeldBack)
    assert "holds another episode of that name" in held_back.sentence
    assert (await lab.ready_ids(), lab.outbox()) == (["e2"], ["e1"])
    assert [line.episode_id for line in recorded_episodes(lab.folder, DATASET)] == ["e2"]

    shutil.rmtree(lab.raw("e1"))
    async with lab.saver() as saver:
        await saver.drained()
    assert await lab.ready_ids() == ["e2", "e1"]
    assert {line.episode_id for line in recorded_episodes(lab.folder, DATASET)} == {"e1", "e2"}


async def test_samples_that_no_converter_takes_fail_at_once(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        finished = lab.record("e1")
        finished.arms[0].values[3, 2] = float("nan")
        with pytest.raises(BadRaw, match=r"joint_2 is nan in row 3"):
            await saver.save(finished)


async def test_what_a_killed_recorder_was_recording_is_removed_and_told(lab: RecorderLab) -> None:
    lab.record("cut", num_frames=31)
    async with lab.saver():
        pass

    assert lab.told(Removed) == [Removed(episode_id="cut", num_frames=62, duration_s=1.0)]
    assert not (lab.folder / "recording" / "cut").exists()


async def test_two_recorders_on_one_folder_are_refused(lab: RecorderLab) -> None:
    async with lab.saver():
        with pytest.raises(Refused, match="in use by another recorder"):
            async with lab.saver():
                pass


async def test_a_source_that_is_not_configured_is_refused_before_anything_is_recorded(lab: RecorderLab) -> None:
    lab.source = "unknown"

    with pytest.raises(BadConfig, match="the source 'unknown' is not configured"):
        async with lab.saver():
            pass


async def test_the_loop_of_the_caller_is_never_held_up(lab: RecorderLab) -> None:
    async with lab.saver() as saver:
        finished = msgspec.structs.replace(lab.record("e1"), arms=arms(num_samples=60_000))
        lags_s = []
        saving = asyncio.create_task(saver.save(finished))
        while not saving.done():
            before_s = asyncio.get_running_loop().time()
            await asyncio.sleep(0)
            lags_s.append(asyncio.get_running_loop().time() - before_s)

    assert len(lags_s) > 50
    assert sorted(lags_s)[-3] < 0.02
