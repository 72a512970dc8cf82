"""An episode that kills whoever works on it fails by itself, as crashed, and holds nobody up."""

from __future__ import annotations

import asyncio
import signal
import uuid
from pathlib import Path

import psutil

from cli.s3_server import S3Server
from shared.errors import WorkerCrashed
from shared.events import EpisodeReady
from tests.e2e.faults import SOURCE, Lab, announce, opened_lab, send_raw, until
from tests.services.converter.episodes import jpeg, write_episode

POISON = "poison"
HEALTHY = ["healthy_1", "healthy_2"]
DEADLINE_S = 60.0


def write_episodes(folder: Path) -> Path:
    """Write healthy episodes and one whose conversion takes seconds and some hundred megabytes."""
    for name in HEALTHY:
        write_episode(folder, name, seconds=0.4)
    image = jpeg(1, width=1920, height=1080)
    for path in write_episode(folder, POISON, seconds=1.2).glob("images/*/*.jpg"):
        path.write_bytes(image)
    return folder


async def published(lab: Lab, raw: Path) -> None:
    await send_raw(raw, lab)
    event = EpisodeReady(episode_id=POISON, source=SOURCE, config_overrides={"video.preset": "slow"})
    await lab.bus.publish(event, message_id=POISON)
    await announce(lab, HEALTHY, pause_s=0)
    await lab.services["converter-1"].start()
    await lab.services["uploader"].start()


async def failed_alone(lab: Lab) -> None:
    """Wait until the poison has failed and the others are complete, and nothing is left to do."""

    async def is_over() -> bool:
        return bool(await lab.num_on("failed") == 1 and await lab.num_complete() == len(HEALTHY) and not await lab.num_unsettled())

    await until(is_over, deadline_s=DEADLINE_S, what=lambda: str(lab.lines("message.handled")))


async def started_attempt(lab: Lab, attempt: int) -> None:
    """Wait until the poison is being converted for the so-many-th time."""

    async def is_started() -> bool:
        return any(line["attempt"] == attempt for line in lab.lines("conversion.started") if line["episode_id"] == POISON)

    await until(is_started, deadline_s=DEADLINE_S)


def worker_of(service_pid: int) -> psutil.Process:
    """Return the process that converts: the forkserver's child."""
    (worker,) = [process for process in psutil.Process(service_pid).children(recursive=True) if process.ppid() != service_pid]
    return worker


async def test_an_episode_whose_process_dies_again_and_again_fails_as_crashed_and_others_go_on(tmp_path: Path, s3_server: S3Server) -> None:
    raw = await asyncio.to_thread(write_episodes, tmp_path / "raw")
    async with opened_lab(tmp_path / f"crash-{uuid.uuid4().hex[:8]}", s3_server, seed=1, workers=1, max_attempts=2) as lab:
        await published(lab, raw)
        for attempt in (1, 2):
            await started_attempt(lab, attempt)
            worker_of(lab.services["converter-1"].pid).send_signal(signal.SIGSEGV)
        await failed_alone(lab)
        (failed,) = await lab.failures()

        assert (failed.episode_id, failed.reason, failed.attempts, failed.error_type) == (POISON, "crashed", 2, WorkerCrashed.__name__)
        assert "died by SIGSEGV" in failed.error


async def test_an_episode_beyond_the_memory_limit_fails_as_crashed_and_others_go_on(tmp_path: Path, s3_server: S3Server) -> None:
    raw = await asyncio.to_thread(write_episodes, tmp_path / "raw")
    async with opened_lab(tmp_path / f"memory-{uuid.uuid4().hex[:8]}", s3_server, seed=1, max_attempts=2, max_memory_mb=150) as lab:
        await published(lab, raw)
        await failed_alone(lab)
        (failed,) = await lab.failures()

        assert (failed.episode_id, failed.reason, failed.attempts) == (POISON, "crashed", 2)
        assert "conversion.max_memory_mb = 150 MB" in failed.error


async def test_an_episode_that_takes_its_whole_service_along_fails_as_crashed_without_running_again(
    tmp_path: Path, s3_server: S3Server
) -> None:
    raw = await asyncio.to_thread(write_episodes, tmp_path / "raw")
    async with opened_lab(tmp_path / f"service-{uuid.uuid4().hex[:8]}", s3_server, seed=1, workers=1, max_attempts=2) as lab:
        await published(lab, raw)
        for attempt in (1, 2):
            await started_attempt(lab, attempt)
            await lab.services["converter-1"].kill(with_family=True)
            await lab.services["converter-1"].start()
        await failed_alone(lab)
        (failed,) = await lab.failures()

        assert (failed.episode_id, failed.reason, failed.attempts) == (POISON, "crashed", 3)
        assert "this is delivery 3: 2 earlier ones ended without an answer" in failed.error
