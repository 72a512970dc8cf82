"""The folder of an embedded stack: what lies in it, who holds it, and what is kept from one `up` to the next.

DIR/credentials.env   generated once; NAME=value lines, readable only by its owner
DIR/storage.yaml      what the services read, without those credentials
DIR/endpoints.json    while the stack is ready: addresses, credentials, process ids
DIR/nats, DIR/valkey  state of the servers
DIR/store, DIR/spool, DIR/work, DIR/logs
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from shared.entry import CREDENTIALS_FILE
from shared.errors import Refused
from shared.permissions import LIMITED_USERS, password_variable
from shared.settings import Secret

_OUR_COMMANDS = (b"nats-server", b"valkey-server", b"services.")
_LEFTOVER_TIMEOUT_S = 60.0
_LEFTOVER_PAUSE_S = 0.05


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What the embedded servers require of their clients.

    Attributes:
        nats_user, nats_password: a user of the bus who may do everything: the person who ran `up`.
        redis_password: of the ledger.
        nats_passwords: by user of the table of permissions, one for each service.
    """

    nats_user: str
    nats_password: Secret
    redis_password: Secret
    nats_passwords: dict[str, Secret]

    def environ(self, *, nats_url: str) -> dict[str, str]:
        """Return them as the variables that services and the stock `nats` tool read."""
        return {
            "NATS_URL": nats_url,
            "NATS_USER": self.nats_user,
            "NATS_PASSWORD": self.nats_password.reveal(),
            "REDIS_PASSWORD": self.redis_password.reveal(),
            **{password_variable(user): password.reveal() for user, password in self.nats_passwords.items()},
        }


class ServiceEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the stack; ``pid`` is None while it waits to be started again."""

    pid: int | None
    log: str
    restarts: int = 0


class NatsEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How to join the bus; ``url`` is without credentials."""

    url: str
    user: str
    password: str
    monitoring_url: str
    port: int
    stream: str


class RedisEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the ledger."""

    host: str
    port: int
    password: str
    db: int = 0


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """What ``endpoints.json`` says: addresses, credentials, places and processes.

    Attributes:
        store: URI of the store.
        raw: URI of the folder of raw episodes by source, where it lies in a store.
        raw_prefix, converted_prefix: below the store.
        converted: URI of the folder of finished datasets.
        config: the storage file of the services.
        credentials: the file with NAME=value lines.
        logs: folder of the logs.
        spool: folder of datasets that wait for their upload.
        pids: process id by name, with ``up`` for the supervisor.
        services: the processes again, with logs and restarts.
    """

    nats: NatsEndpoint
    redis: RedisEndpoint
    store: str
    raw: dict[str, str]
    raw_prefix: str
    converted_prefix: str
    converted: str
    config: str
    credentials: str
    logs: str
    spool: str
    pids: dict[str, int]
    services: dict[str, ServiceEndpoint]


class StateFolder:
    """One stack's folder.

    Args:
        path: made if missing, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.storage_path = self.path / "storage.yaml"
        self.endpoints_path = self.path / "endpoints.json"
        self.credentials_path = self.path / CREDENTIALS_FILE
        self.logs = self.path / "logs"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for this process alone; the lock of a process that died is free.

        Raises:
            Refused: another stack runs here, or the folder cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            lock = (self.path / "lock").open("w")
        except OSError as error:
            raise Refused(f"{self.path} cannot be the state folder: {error}; choose another with --state") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"{self.path} is in use by another `episodeflow up`: stop that one, or choose another --state") from None
            yield

    def is_held(self) -> bool:
        """Say whether another process runs a stack here."""
        try:
            lock = (self.path / "lock").open("r+")
        except OSError:
            return False
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    async def wait_for_leftovers(self) -> None:
        """Wait until the processes of an earlier stack that was killed have ended, as the kernel told them to.

        Raises:
            Refused: some still run; the message has their ids.
        """
        pids = self._last_pids()
        deadline_s = asyncio.get_running_loop().time() + _LEFTOVER_TIMEOUT_S
        while pids := {name: pid for name, pid in pids.items() if _is_ours(pid)}:
            if asyncio.get_running_loop().time() > deadline_s:
                listed = ", ".join(f"{name} ({pid})" for name, pid in pids.items())
                raise Refused(f"{self.path}: processes of an earlier `episodeflow up` still run: {listed}; end them, then start again")
            await asyncio.sleep(_LEFTOVER_PAUSE_S)  # nobody tells about the end of somebody else's child
        self.endpoints_path.unlink(missing_ok=True)

    def _last_pids(self) -> dict[str, int]:
        try:
            pids = msgspec.json.decode(self.endpoints_path.read_bytes(), type=Endpoints).pids
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        return {name: pid for name, pid in pids.items() if name != "up"}

    def credentials(self) -> Credentials:
        """Return the credentials of this folder, generated the first time."""
        known: dict[str, str] = {}
        if self.credentials_path.is_file():
            lines = self.credentials_path.read_text(encoding="utf-8").splitlines()
            known = {name: value for name, _, value in (line.partition("=") for line in lines)}
        return Credentials(
            nats_user=known.get("NATS_USER") or "episodeflow",
            nats_password=Secret(known.get("NATS_PASSWORD") or secrets.token_hex(16)),
            redis_password=Secret(known.get("REDIS_PASSWORD") or secrets.token_hex(16)),
            nats_passwords={user: Secret(known.get(password_variable(user)) or secrets.token_hex(16)) for user in LIMITED_USERS},
        )

    def write_credentials(self, environ: Mapping[str, str]) -> None:
        """Keep the credentials, and how the bus is reached, for the next `up` and for whoever joins."""
        text = "".join(f"{name}={value}\n" for name, value in environ.items())
        write_private(self.credentials_path, text.encode())

    def write_storage(self, document: dict[str, Any]) -> None:
        """Write the storage file of the services."""
        header = b"# Written by `episodeflow up`; it is written anew at every start.\n"
        write_private(self.storage_path, header + msgspec.yaml.encode(document))

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Say that the stack is ready, and where everything is."""
        write_private(self.endpoints_path, msgspec.json.format(msgspec.json.encode(endpoints)) + b"\n")

    def server_ports(self) -> dict[str, int]:
        """Return the ports used last, by name; they are used again if they are free, so that addresses stay."""
        try:
            return msgspec.json.decode((self.path / "ports.json").read_bytes(), type=dict[str, int])
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def write_server_ports(self, ports: dict[str, int]) -> None:
        """Keep the ports for the next `up`."""
        write_private(self.path / "ports.json", msgspec.json.encode(ports))


def write_private(path: Path, body: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(body)
    temporary.replace(path)


def _is_ours(pid: int) -> bool:
    """Say whether the process is one of a stack; ids are used again, so its command line has to look like one."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return any(name in command for name in _OUR_COMMANDS)
