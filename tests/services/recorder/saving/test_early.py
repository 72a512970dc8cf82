"""Images that are sent while their episode is recorded, through the whole saver: every death, discard and outage on the way."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cli.s3_server import S3Server
from cli.servers import NatsServer
from services.recorder.saving.episode import FinishedEpisode
from services.recorder.saving.news import Announced, Flowing, Removed, Restarted, Waiting
from services.scanner.service import Scanner
from shared.bus import Bus
from shared.config import RedisConfig, ScannerConfig
from shared.entry import load
from shared.ledger import Ledger
from shared.store import StorePool
from tests.services.recorder.saving.buckets import Bucket, bucket_lab
from tests.services.recorder.saving.labs import CAMERAS, START_US, RecorderLab, arms, eventually, image_of


@pytest.fixture
async def cloud_lab(tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str, s3_server: S3Server) -> RecorderLab:
    """A lab with a bucket on the server of the session."""
    return await bucket_lab(tmp_path, nats_server, redis_config, source, s3_server)


JOINTS = sorted([*(f"joints/{arm.arm}.parquet" for arm in arms()), "joints/metadata.json"])
IMAGES = sorted(f"images/{camera}/{START_US + 33_333 * index}.jpg" for camera in CAMERAS for index in range(6))


async def test_images_are_in_the_bucket_before_the_end_and_the_episode_is_announced_whole(cloud_lab: RecorderLab) -> None:
    lab, bucket = cloud_lab, Bucket(cloud_lab)
    async with lab.saver() as saver:
        finished = lab.record("e1")
        await bucket.until_there("e1", num_objects=12)
        while_recording = await bucket.names("e1")
        for camera in CAMERAS:
            lab.write_image("e1", camera, 6)
        await saver.save(finished)
        await saver.drained()

    later = [f"images/{camera}/{START_US + 33_333 * 6}.jpg" for camera in CAMERAS]
    assert while_recording == IMAGES
    assert await bucket.names("e1") == sorted([*IMAGES, *later]) + JOINTS
    assert await bucket.content("e1", later[1]) == image_of("e1", CAMERAS[1], 6)
    assert (await lab.ready_ids(), lab.outbox()) == (["e1"], [])
    assert list((lab.folder / "sent_ahead").iterdir()) == []


@pytest.mark.parametrize("num_images", [0, 5, 12])
async def test_a_saver_killed_while_it_sends_ahead_goes_on_and_announces_once(cloud_lab: RecorderLab, num_images: int) -> None:
    lab, bucket = cloud_lab, Bucket(cloud_lab)
    async with lab.saver() as saver:
        finished = lab.record("e1", num_frames=num_images // 2)
        await bucket.until_there("e1", num_objects=2 * (num_images // 2))
        assert saver.pid is not None
        os.kill(saver.pid, signal.SIGKILL)
        for index in range(num_images // 2, 6):
            for camera in CAMERAS:
                lab.write_image("e1", camera, index)
        await lab.wait_for(Restarted)
        await saver.save(finished)
        await saver.drained()

    assert await bucket.names("e1") == IMAGES + JOINTS
    assert (await lab.ready_ids(), lab.outbox()) == (["e1"], [])
    assert list((lab.folder / "sent_ahead").iterdir()) == []


async def test_savers_that_die_at_any_moment_between_camera_and_bus_lose_and_double_nothing(cloud_lab: RecorderLab) -> None:
    lab, bucket, chance = cloud_lab, Bucket(cloud_lab), random.Random(7)
    names = [f"e{index}" for index in range(5)]
    async with lab.saver() as saver:
        saving = []
        for num_deaths, name in enumerate(names, 1):
            await eventually(lambda: saver.pid is not None)
            finished = lab.record(name)
            await asyncio.sleep(chance.uniform(0, 0.3))  # another moment each time
            saving.append(asyncio.create_task(saver.save(finished)))
            await asyncio.sleep(chance.uniform(0, 0.15))
            if saver.pid is not None:
                os.kill(saver.pid, signal.SIGKILL)
            await lab.wait_for(Restarted, count=num_deaths)
        await asyncio.gather(*saving)
        await saver.drained()

    assert [await bucket.names(name) for name in names] == [IMAGES + JOINTS] * 5
    assert (await lab.ready_ids(), lab.outbox()) == (names, [])
    assert list((lab.folder / "sent_ahead").iterdir()) == []


async def test_a_discarded_episode_leaves_the_bucket_while_the_next_one_is_recorded(cloud_lab: RecorderLab) -> None:
    lab, bucket = cloud_lab, Bucket(cloud_lab)
    async with lab.saver() as saver:
        shutil.rmtree((await _sent_ahead(lab, bucket, "e1")).folder)
        second = await _sent_ahead(lab, bucket, "e2")
        await bucket.until_there("e1", num_objects=0)
        await saver.save(second)
        await saver.drained()

    assert await bucket.names("e2") == IMAGES + JOINTS
    assert list((lab.folder / "sent_ahead").iterdir()) == []


async def test_an_episode_discarded_at_the_very_end_leaves_the_bucket_before_the_saver_ends(cloud_lab: RecorderLab) -> None:
    lab, bucket = cloud_lab, Bucket(cloud_lab)
    async with lab.saver():
        shutil.rmtree((await _sent_ahead(lab, bucket, "e1")).folder)

    assert await bucket.names("e1") == []
    assert list((lab.folder / "sent_ahead").iterdir()) == []


async def _sent_ahead(lab: RecorderLab, bucket: Bucket, episode_id: str) -> FinishedEpisode:
    finished = lab.record(episode_id)
    await bucket.until_there(episode_id, num_objects=12)
    return finished


async def test_what_a_killed_recorder_had_sent_leaves_the_bucket_with_the_next_one(cloud_lab: RecorderLab) -> None:
    lab, bucket = cloud_lab, Bucket(cloud_lab)
    command = [sys.executable, "-m", "tests.services.recorder.saving.recorder", str(lab.folder), str(lab.config_path), lab.source]
    recorder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert recorder.stdout is not None
    saver_pid = int(await recorder.stdout.readline())
    await bucket.until_there("e2", num_objects=1)
    recorder.kill()
    await recorder.wait()
    await eventually(lambda: not Path(f"/proc/{saver_pid}").exists())
    left = await bucket.names("e2")
    async with lab.saver() as saver:
        await bucket.until_there("e2", num_objects=0)
        await saver.drained()

    assert left == ["images/cam_env/1764564821000000.jpg"]
    assert [removed.episode_id for removed in lab.told(Removed)] == ["e2"]
    assert await lab.ready_ids() == ["e1"]


async def test_a_bucket_away_in_the_middle_of_an_episode_is_no_news_until_it_is_saved(
    tmp_path: Path, nats_server: NatsServer, redis_config: RedisConfig, source: str, private_s3_server: S3Server
) -> None:
    lab = await bucket_lab(tmp_path, nats_server, redis_config, source, private_s3_server)
    bucket = Bucket(lab)
    async with lab.saver() as saver:
        finished = await _sent_ahead(lab, bucket, "e1")
        discarded = await _sent_ahead(lab, bucket, "e2")
        await private_s3_server.kill()
        for camera in CAMERAS:
            lab.write_image("e1", camera, 6)
        shutil.rmtree(discarded.folder)
        log = lab.folder / "saver.log"
        await eventually(lambda: b"forwarding.paused" in log.read_bytes() and b"strays.left" in log.read_bytes())
        news_while_recording = list(lab.told(Waiting))
        await saver.save(finished)
        await lab.wait_for(Waiting)
        announced_meanwhile = lab.told(Announced)
        await private_s3_server.start()
        await saver.drained()
        await bucket.until_there("e2", num_objects=0)

    assert (news_while_recording, announced_meanwhile) == ([], [])
    assert len(await bucket.names("e1")) == 14 + len(JOINTS)
    assert len(lab.told(Waiting)) == len(lab.told(Flowing)) == 1
    assert (await lab.ready_ids(), lab.outbox()) == (["e1"], [])


async def test_what_was_sent_ahead_is_no_episode_for_the_scanner(cloud_lab: RecorderLab, bus: Bus, redis_config: RedisConfig) -> None:
    lab = cloud_lab
    async with lab.saver():
        await _sent_ahead(lab, Bucket(lab), "e1")
        loaded = load(lab.config_path, {})
        cameras = [msgspec.structs.replace(loaded.strategy.cameras[0], name=CAMERAS[0])]
        strategy = msgspec.structs.replace(loaded.strategy, cameras=tuple(cameras))
        config = ScannerConfig(settle_s=0.0, min_episode_files=1, incremental_key=f"scan:{lab.source}")
        async with StorePool(loaded.storage.bos) as stores, Ledger(redis_config, scan_key=config.incremental_key) as ledger:
            scanner = Scanner(bus=bus, ledger=ledger, stores=stores, places=loaded.places(), config=config, strategy=strategy)
            summary = await scanner.scan(is_full=True)

    assert (summary.found, summary.published, len(summary.waiting)) == (1, (), 1)
    assert await lab.ready_ids() == []
