"""One fresh process per episode: it can be killed, and its crash is one episode's failure.

Processes come from a forkserver that has loaded the libraries once, so that a conversion starts within milliseconds and
none inherits the service's threads, connections or event loop. The child sends how many frames it has encoded and, last,
its result or its error over a pipe; the end of the pipe without a result is a crash.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import TYPE_CHECKING, Any

from services.converter import memory
from shared.errors import EpisodeflowError, WorkerCrashed

if TYPE_CHECKING:  # whoever starts a worker does without the libraries that only the worker needs
    from services.converter.assignment import Assignment, Converted

PROGRESS_INTERVAL_S = 0.1
_PRELOADED = ["__main__", "services.converter.convert"]


def preload() -> None:
    """Start the forkserver, which loads the libraries while the caller goes on, so that no episode waits for them."""
    memory.prefer_small(os.environ)  # the forkserver and its children inherit it
    multiprocessing.set_forkserver_preload(_PRELOADED)
    forkserver.ensure_running()


async def convert_in_process(
    assignment: Assignment, on_frames: Callable[[int], None] = lambda _: None, on_start: Callable[[float], None] = lambda _: None
) -> Converted:
    """Convert an episode in a process of its own.

    Args:
        assignment: what to convert; its folder is removed again unless the conversion succeeds.
        on_frames: called in the event loop with how many more camera frames are encoded.
        on_start: called with the seconds since the epoch at which the process began to convert.

    Raises:
        EpisodeflowError: what ``convert`` raised.
        WorkerCrashed: the process died without an answer.
        asyncio.CancelledError: the caller was cancelled; the process has been killed.
    """
    preload()
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(assignment, sending), daemon=True)
    succeeded = False
    try:
        await _started(process)
        sending.close()
        result = await _answer(process, receiving, {"frames": on_frames, "started": on_start})
        succeeded = True
        return result
    finally:
        sending.close()
        receiving.close()
        await _end(process)
        if not succeeded:
            await asyncio.to_thread(shutil.rmtree, assignment.folder, ignore_errors=True)


async def _started(process: ForkServerProcess) -> None:
    """Start the process; where the caller is cancelled meanwhile, end only once there is a process that can be killed."""
    starting = asyncio.create_task(asyncio.to_thread(process.start))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await starting
        raise


async def _answer(process: ForkServerProcess, receiving: Connection, listeners: dict[str, Callable[[Any], None]]) -> Converted:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(receiving.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            while receiving.poll():
                kind, content = receiving.recv()
                if kind == "error":
                    raise content
                if kind == "result":
                    return content  # type: ignore[no-any-return]
                listeners[kind](content)
    except EOFError:
        await asyncio.to_thread(process.join)
        raise WorkerCrashed(
            f"the process converting the episode died {_cause(process.exitcode)}; see the log of the host it ran on"
        ) from None
    finally:
        loop.remove_reader(receiving.fileno())


def _cause(exit_code: int | None) -> str:
    if exit_code is None or exit_code >= 0:
        return f"with exit status {exit_code}"
    name = signal.Signals(-exit_code).name
    return f"by {name} (out of memory?)" if name == "SIGKILL" else f"by {name}"


async def _end(process: ForkServerProcess) -> None:
    if process.pid is None:
        return
    if process.is_alive():
        process.kill()
    await asyncio.to_thread(process.join)
    process.close()


def _work(assignment: Assignment, sending: Connection) -> None:
    """Run in the child: the terminal's Ctrl-C is its parent's business, the parent's end is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise; read when it starts
    from services.converter.convert import convert  # noqa: PLC0415 - the parent does without the codec libraries

    sending.send(("started", time.time()))
    progress = _Progress(sending)
    try:
        message: tuple[str, object] = ("result", convert(assignment, progress.add))
        progress.flush()
    except EpisodeflowError as error:
        message = ("error", error)
    sending.send(message)


class _Progress:
    """Sends the number of encoded frames, at most every ``PROGRESS_INTERVAL_S``; ends the process if nobody listens."""

    def __init__(self, sending: Connection) -> None:
        self._sending = sending
        self._lock = threading.Lock()
        self._count = 0
        self._last_s = time.monotonic()

    def add(self, count: int) -> None:
        """Count frames; called from several threads."""
        with self._lock:
            self._count += count
            if time.monotonic() - self._last_s >= PROGRESS_INTERVAL_S:
                self._send()

    def flush(self) -> None:
        """Send what has not been sent, so that the numbers add up."""
        with self._lock:
            self._send()

    def _send(self) -> None:
        sent, self._count, self._last_s = self._count, 0, time.monotonic()
        try:
            self._sending.send(("frames", sent))
        except BrokenPipeError:
            os._exit(1)
