"""One fresh process per episode: it can be killed, and its crash is one episode's failure.

Processes come from a forkserver that has loaded the libraries once, so that a conversion starts within milliseconds and
none inherits the service's threads, connections or event loop. The child sends how many frames it has encoded and, last,
its result or its error over a pipe; the end of the pipe without a result is a crash. So is an episode beyond its limits.
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
from services.converter.limits import MEMORY_KEY, Limits, data_mb, is_out_of_memory, limit_memory, out_of_memory, out_of_time
from shared.errors import EpisodeflowError, WorkerCrashed

if TYPE_CHECKING:  # whoever starts a worker does without the libraries that only the worker needs
    from services.converter.assignment import Assignment, Converted

PROGRESS_INTERVAL_S = 0.1
_SAMPLE_INTERVAL_S = 0.05
_NO_LIMITS = Limits()
_PRELOADED = ("services.converter.convert",)


def preload(*modules: str) -> None:
    """Start the forkserver, which loads the libraries while the caller goes on, so that no episode waits for them.

    Args:
        modules: what the program's main script imports: every child runs it once more.
    """
    memory.prefer_small(os.environ)  # the forkserver and its children inherit it
    multiprocessing.set_forkserver_preload([*_PRELOADED, *modules])
    forkserver.ensure_running()


async def convert_in_process(
    assignment: Assignment,
    on_frames: Callable[[int], None] = lambda _: None,
    on_start: Callable[[float], None] = lambda _: None,
    *,
    limits: Limits = _NO_LIMITS,
) -> Converted:
    """Convert an episode in a process of its own.

    Args:
        assignment: what to convert; its folder is removed again unless the conversion succeeds.
        on_frames: called in the event loop with how many more camera frames are encoded.
        on_start: called with the seconds since the epoch at which the process began to convert.
        limits: what the process may use.

    Raises:
        EpisodeflowError: what ``convert`` raised.
        WorkerCrashed: the process died without an answer, or went beyond its limits.
        asyncio.CancelledError: the caller was cancelled; the process has been killed.
    """
    preload()
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(assignment, sending, limits), daemon=True)
    succeeded = False
    try:
        await _started(process)
        sending.close()
        result = await _limited(process, receiving, limits=limits, on_frames=on_frames, on_start=on_start)
        succeeded = True
        return result
    finally:
        sending.close()
        receiving.close()
        await _end(process)
        if not succeeded:
            await asyncio.to_thread(shutil.rmtree, assignment.folder, ignore_errors=True)


async def _limited(
    process: ForkServerProcess,
    receiving: Connection,
    *,
    limits: Limits,
    on_frames: Callable[[int], None],
    on_start: Callable[[float], None],
) -> Converted:
    """Wait for the answer within the limits."""
    num_frames = 0

    def count(more: int) -> None:
        nonlocal num_frames
        num_frames += more
        on_frames(more)

    memory_seen = _MemorySeen(process.pid)
    sampling = asyncio.create_task(memory_seen.sample()) if limits.max_memory_mb is not None else None
    try:
        async with asyncio.timeout(limits.max_seconds):
            return await _answer(process, receiving, {"frames": count, "started": on_start, "held": memory_seen.begin})
    except TimeoutError:
        raise out_of_time(limits, num_frames=num_frames) from None
    except _OutOfMemoryError:
        raise out_of_memory(limits, used_mb=memory_seen.most_mb) from None
    except WorkerCrashed as error:
        # A library that gets no memory may end the process instead of saying so: the numbers tell which it was.
        if limits.max_memory_mb is None:
            raise
        used = "an unknown amount" if memory_seen.most_mb is None else f"{memory_seen.most_mb} MB"
        raise WorkerCrashed(f"{error} (it had {used} of {MEMORY_KEY} = {limits.max_memory_mb} MB)") from None
    finally:
        if sampling:
            sampling.cancel()


class _OutOfMemoryError(Exception):
    """The process said that it has no more memory."""


class _MemorySeen:
    """The most memory that a process was seen with, beyond what its libraries hold."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._held_mb: int | None = None
        self.most_mb: int | None = None

    def begin(self, held_mb: int | None) -> None:
        """Note what the libraries hold."""
        self._held_mb = held_mb

    async def sample(self) -> None:
        """Look until cancelled: the kernel keeps no peak of what it limits."""
        while (now_mb := data_mb(self._pid)) is not None:
            if self._held_mb is not None:
                self.most_mb = max(self.most_mb or 0, now_mb - self._held_mb)
            await asyncio.sleep(_SAMPLE_INTERVAL_S)


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
                if kind == "out of memory":
                    raise _OutOfMemoryError
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


def _work(assignment: Assignment, sending: Connection, limits: Limits) -> None:
    """Run in the child: the terminal's Ctrl-C is its parent's business, the parent's end is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its settings otherwise; read when it starts
    from services.converter.convert import convert  # noqa: PLC0415 - the parent does without the codec libraries

    sending.send(("started", time.time()))
    progress = _Progress(sending)
    sending.send(("held", data_mb(os.getpid())))
    limit_memory(limits)
    try:
        message: tuple[str, object] = ("result", convert(assignment, progress.add))
        progress.flush()
    except (EpisodeflowError, MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            if isinstance(error, EpisodeflowError):
                sending.send(("error", error))
                return
            raise
        message = ("out of memory", None)
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
