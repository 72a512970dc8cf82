"""A service as a child process that is started again when it dies, and ends when asked to.

On Linux the kernel tells the child to end (SIGTERM) when we die, whatever killed us. Each child has a session of its own,
so that Ctrl-C in the terminal reaches only us and the order of the shutdown is ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from cli.servers import _dying_with_parent
from shared import logs

_log = logs.logger("stack")

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_SOUND_LIFE_S = 60.0
"""A child that lived so long was healthy: the delay starts small again."""

_LAST_BYTES = 4096


class Child:
    """One service process.

    Args:
        name: how it is called in logs and tables.
        command: its command line; holds no secret.
        environ: its whole environment.
        log_path: where its output goes.
        on_change: called when it started or ended.
    """

    def __init__(self, name: str, command: list[str], *, environ: Mapping[str, str], log_path: Path, on_change: Callable[[], None]) -> None:
        self.name = name
        self.log_path = log_path
        self.restarts = 0
        self._command = command
        self._environ = dict(environ)
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self, stopping: asyncio.Event, *, grace_s: float) -> None:
        """Keep the service running until ``stopping``, then ask it to end, and kill it after ``grace_s``."""
        delay_s = _FIRST_DELAY_S
        while not stopping.is_set():
            lived_s = await self._life(stopping, grace_s)
            if stopping.is_set():
                return
            delay_s = _FIRST_DELAY_S if lived_s > _SOUND_LIFE_S else delay_s
            self.restarts += 1
            self._on_change()
            status = self._process.returncode if self._process else None
            _log.warning("child.ended", name=self.name, outcome=status, attempts=self.restarts, delay_s=delay_s, error=self.last_words())
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await stopping.wait()
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    def last_words(self) -> str:
        """Return the error of the log's last line that has one, or the last line."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return "it left no log"
        errors = [error for line in lines if (error := _error_of(line))]
        return errors[-1] if errors else (lines[-1] if lines else "its log is empty")

    async def _life(self, stopping: asyncio.Event, grace_s: float) -> float:
        """Run the process once, and return the seconds it lived."""
        started_s = asyncio.get_running_loop().time()
        process = self._process = await self._started()
        self._on_change()
        ended = asyncio.create_task(process.wait())
        stop = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait({ended, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            # Also when we are cancelled: no child may outlive its supervisor.
            await asyncio.shield(_end(process, ended, grace_s))
        return asyncio.get_running_loop().time() - started_s

    async def _started(self) -> asyncio.subprocess.Process:
        descriptor = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                env=self._environ,
                start_new_session=True,
                preexec_fn=_dying_with_parent() if sys.platform == "linux" else None,
            )
        finally:
            os.close(descriptor)


async def _end(process: asyncio.subprocess.Process, ended: asyncio.Task[int], grace_s: float) -> None:
    if process.returncode is None:
        process.terminate()
        await asyncio.wait({ended}, timeout=grace_s)
    if not ended.done():
        _log.warning("child.killed", pid=process.pid, grace_s=grace_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # with what it may have left behind in its session
    await ended


def _error_of(line: str) -> str | None:
    """Return what a JSON log line gives as its error, or a line that says so by itself."""
    try:
        decoded = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line.removeprefix("error: ") if line.startswith("error: ") else None
    error = decoded.get("error") if isinstance(decoded, dict) else None
    return str(error) if error else None
