"""No secret of a running stack is in a log, in a process's arguments, or in a file that others can read."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import aiohttp
import msgspec
import psutil

from cli.embedding import Wish
from cli.stack import Stack
from cli.state import StateFolder
from shared.bus import Bus
from shared.config import NatsConfig
from shared.connection import Incoming


async def test_secrets_of_a_running_stack_show_up_nowhere(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    async with Stack(state, Wish(), {"PATH": "/usr/bin:/bin", "BOS_ACCESS_KEY": "access-0815", "BOS_SECRET_KEY": "hidden-4711"}):
        environ = state.credentials().environ(nats_url="")
        known = {value for name, value in environ.items() if name.endswith("PASSWORD")} | {"access-0815", "hidden-4711"}
        arguments = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
        users = {file.name: file.read_text() for file in (state.path / "nats").glob("nats.conf")}
    files = [path for path in state.path.rglob("*") if path.is_file()]
    telling = {path.name for path in files if any(secret.encode() in path.read_bytes() for secret in known)}
    logs = "".join(path.read_text(errors="replace") for path in files if path.suffix == ".log")

    assert len(known) == 10
    assert len(arguments) >= 5
    assert not [secret for secret in known for line in arguments if secret in line]
    assert "service.started" in logs
    assert not [secret for secret in known if secret in logs]
    assert telling <= {"credentials.env", "nats.conf", "valkey.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files if path.name in telling} == {0}
    assert 'user: "converter"' in users["nats.conf"]


async def test_each_service_is_its_own_user_and_answers_the_stock_tool(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    async with Stack(state, Wish(), {"PATH": "/usr/bin:/bin"}) as stack, aiohttp.ClientSession() as session:
        nats = stack.endpoints().nats
        async with session.get(f"{nats.monitoring_url}/connz?auth=true") as answer:
            connections = (await answer.json())["connections"]
        config = NatsConfig(servers=(nats.url,), user="operator", password=state.credentials().nats_passwords["operator"])
        async with await Bus.connect(config, name="operator") as bus:
            pinged: asyncio.Queue[Incoming] = asyncio.Queue()
            inbox = bus.connection.new_inbox()
            subscribed = await bus.connection.subscribe(inbox, pinged.put_nowait)
            await bus.connection.send("$SRV.PING", b"", reply=inbox)
            async with asyncio.timeout(5):
                names = {msgspec.json.decode((await pinged.get()).body)["name"] for _ in range(3)}
            await subscribed.end(drain=False)

    assert {(each["name"].partition("-")[0], each["authorized_user"]) for each in connections} == {
        ("scanner", "scanner"),
        ("converter", "converter"),
        ("uploader", "uploader"),
    }
    assert names == {"episodeflow-scanner", "episodeflow-converter", "episodeflow-uploader"}


def test_credentials_show_no_secret_in_their_repr(tmp_path: Path) -> None:
    credentials = StateFolder(tmp_path).credentials()

    assert not [
        value for name, value in credentials.environ(nats_url="").items() if name.endswith("PASSWORD") and value in repr(credentials)
    ]
