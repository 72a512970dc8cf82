"""`episodeflow up` as a process: what it writes, how it stops, and what it does when something dies."""

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from tests.e2e.stacks import run_command, up, write_config


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "lab", sources=["lab"])


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until_gone(pids: list[int]) -> list[int]:
    """Wait until the processes have ended, at most 20 s, and return those that have not."""
    async with asyncio.timeout(20):
        while True:
            left = [pid for pid in pids if is_running(pid)]
            if not left:
                return left
            await asyncio.sleep(0.05)


async def until_answers(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            await asyncio.sleep(0.05)


async def test_endpoints_tell_everything_privately_and_a_stop_leaves_nothing_running(tmp_path: Path, config: Path) -> None:
    state = tmp_path / "state"
    async with up(state, "-c", str(config), "--converters", "2") as stack:
        endpoints = stack.endpoints()
        mode = stat.S_IMODE((state / "endpoints.json").stat().st_mode)
        command_lines = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in endpoints.pids.values())
        async with await stack.bus() as bus:
            infos = await bus.consumer_infos()
        status = await stack.stop(signal.SIGTERM)
    left = await until_gone(list(endpoints.pids.values()))

    assert mode == 0o600
    assert set(endpoints.pids) == {"up", "nats", "valkey", "scanner", "converter-1", "converter-2", "uploader"}
    assert endpoints.nats.password not in command_lines
    assert endpoints.redis.password not in command_lines
    assert endpoints.nats.password not in (state / "storage.yaml").read_text()
    assert {info.name for info in infos} == {"converter-lab", "converter-any", "uploader-default"}
    assert endpoints.raw == {"lab": (state / "store" / "raw_datas").as_uri()}
    assert endpoints.converted == (state / "store" / "converted_datas").as_uri()
    assert status == 0
    assert left == []
    assert not (state / "endpoints.json").exists()


async def test_second_up_on_the_same_folder_is_refused_with_a_sentence(tmp_path: Path, config: Path) -> None:
    async with up(tmp_path / "state", "-c", str(config)):
        status, _, err = await run_command("up", "--state", str(tmp_path / "state"))

    assert status == 1
    assert err == (f"error: {tmp_path}/state is in use by another `episodeflow up`: stop that one, or choose another --state\n")


async def test_services_and_servers_that_die_are_started_again_and_the_endpoints_say_so(tmp_path: Path, config: Path) -> None:
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        before = stack.endpoints()
        os.kill(before.pids["converter-1"], signal.SIGKILL)
        os.kill(before.pids["nats"], signal.SIGKILL)
        async with asyncio.timeout(20):
            while True:
                after = stack.endpoints()
                if all(after.services[name].restarts == 1 and after.services[name].pid for name in ("converter-1", "nats")):
                    break
                await asyncio.sleep(0.05)
        await until_answers(after.nats.port)
        async with await stack.bus() as bus:
            info = await bus.stream_info()

    assert after.pids["converter-1"] != before.pids["converter-1"]
    assert after.nats == before.nats
    assert info is not None


async def test_killed_up_takes_its_children_along_and_the_next_one_starts(tmp_path: Path, config: Path) -> None:
    async with up(tmp_path / "state", "-c", str(config)) as stack:
        before = stack.endpoints()
        await stack.stop(signal.SIGKILL)
        left = await until_gone(list(before.pids.values()))
    async with up(tmp_path / "state", "-c", str(config), is_waiting=False) as stack:
        await stack.until_ready()
        after = stack.endpoints()

    assert left == []
    assert after.nats == before.nats


async def test_store_without_credentials_is_one_sentence_before_any_service_starts(tmp_path: Path) -> None:
    config = write_config(tmp_path / "lab", sources=["lab"], bos={"endpoint": "http://127.0.0.1:1", "bucket": "robots"})
    status, _, err = await run_command(
        "up", "--state", str(tmp_path / "state"), "-c", str(config), environ={"BOS_ACCESS_KEY": "", "BOS_SECRET_KEY": ""}
    )

    assert status == 1
    assert err.startswith("error: ")
    assert "access_key" in err
    assert not (tmp_path / "state" / "logs" / "scanner.log").exists()


async def test_up_that_is_stopped_while_it_starts_leaves_nothing_running(tmp_path: Path, config: Path) -> None:
    async with up(tmp_path / "state", "-c", str(config), is_waiting=False) as stack:
        children: list[psutil.Process] = []
        async with asyncio.timeout(20):
            while not children:
                children = psutil.Process(stack.process.pid).children()
                await asyncio.sleep(0.01)
        status = await stack.stop(signal.SIGINT)
        left = await until_gone([child.pid for child in children])

    assert status == 0
    assert left == []
    assert not (tmp_path / "state" / "endpoints.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "ftp://x"], "--store: 'ftp://x' is no store"),
        (["-c", "missing.yaml"], "missing.yaml: cannot be read"),
    ],
)
async def test_wrong_option_is_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    status, out, err = await run_command("up", "--state", str(tmp_path / "state"), *arguments)

    assert (status, out) == (1, "")
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1
