"""Services as child processes that a test kills, pauses and starts again as it likes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from cli.servers import _dying_with_parent

_STOP_TIMEOUT_S = 40.0


class ServiceProcess:
    """``python -m services.X -c storage.yaml``, again and again, with one log.

    Args:
        name: of its log.
        module: which service.
        config: its storage file.
        environ: its whole environment.
        arguments: more of the command line.
    """

    def __init__(self, name: str, module: str, *, config: Path, environ: Mapping[str, str], arguments: tuple[str, ...] = ()) -> None:
        self.name = name
        self.log_path = config.parent / f"{name}.log"
        self._command = [sys.executable, "-P", "-m", f"services.{module}", "-c", str(config), *arguments]
        self._environ = dict(environ)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id of the last life."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                start_new_session=True,
                preexec_fn=_dying_with_parent(),
            )

    async def kill(self, *, with_family: bool = False) -> None:
        """End it with SIGKILL: alone, as the kernel would, or with its children, as a container's end would."""
        assert self._process is not None
        if with_family:
            self._signal_family(signal.SIGKILL)
        elif self.is_running:
            self._process.kill()
        await self._process.wait()

    def pause(self) -> None:
        """Stop it and its children where they are: no heartbeat leaves it."""
        self._signal_family(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_family(signal.SIGCONT)

    async def stop(self) -> int:
        """Ask it to end, and return its exit status."""
        assert self._process is not None
        if self.is_running:
            self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                return await self._process.wait()
        finally:
            self._signal_family(signal.SIGKILL)

    def _signal_family(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # nobody of it is left
