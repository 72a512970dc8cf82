"""The recorder's side of the saver: one child process that is never waited for by the control loop.

The child saves and delivers (``services/recorder/saving``). Here an episode is kept until the child has said that it is
durable: a child that dies is started again at once and asked again, and because saving is idempotent, nothing is saved twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from services.recorder.saving import channel
from services.recorder.saving.episode import ArmSamples, FinishedEpisode, SaveRequest
from services.recorder.saving.news import Counted, FromSaver, Lost, Ready, Restarted, Saved, SaverNews, Unsaved, Unusable
from services.recorder.saving.outbox import held
from shared import logs
from shared.errors import BadConfig, BadRaw, WorkerCrashed

_log = logs.logger("saver")

LOG_FILE = "saver.log"
_MAX_LOG_BYTES = 10 * 1024 * 1024
_MAX_DEATHS = 3
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0
_GRACE_S = 30.0
_SOUND_LIFE_S = 60.0
"""A child that lived so long was healthy: the pause starts small again."""


class _Unsaved(msgspec.Struct, kw_only=True):
    """An episode that the child has not reported as saved; how often a child died that had it."""

    request: SaveRequest
    arms: tuple[ArmSamples, ...]
    saved: asyncio.Future[Saved]
    deaths: int = 0
    trouble: str = "its process died"


class Saver:
    """Saves finished episodes and delivers them, in another process; made by ``running_saver``.

    Attributes:
        pid: of that process; None while there is none.
    """

    def __init__(self, command: list[str], *, folder: Path, lock: BinaryIO, on_progress: Callable[[SaverNews], None]) -> None:
        self.pid: int | None = None
        self._command = command
        self._folder = folder
        self._lock = lock
        self._on_progress = on_progress
        self._unsaved: dict[str, _Unsaved] = {}
        self._counted = Counted(num_waiting=0, num_held_back=0)
        self._changed = asyncio.Event()
        self._sending = asyncio.Lock()
        self._stdin: asyncio.StreamWriter | None = None
        self._closing = asyncio.Event()
        self._is_ready = False
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def num_waiting(self) -> int:
        """How many episodes are not announced yet: being saved, or in the outbox."""
        return len(self._unsaved) + self._counted.num_waiting

    async def save(self, finished: FinishedEpisode) -> Saved:
        """Return once the episode is durable in the outbox; with a full disk that takes until there is room.

        A caller that is cancelled does not end the saving.

        Raises:
            BadRaw: it cannot be saved (see ``Outbox.save``).
            WorkerCrashed: the saver's process died again and again over it, or the recorder ended.
            ValueError: samples of a wrong shape or type, or an episode that is being saved already.
        """
        episode_id = finished.event.episode_id
        if episode_id in self._unsaved:
            raise ValueError(f"{episode_id} is being saved already")
        saved: asyncio.Future[Saved] = asyncio.get_running_loop().create_future()
        unsaved = self._unsaved[episode_id] = _Unsaved(request=SaveRequest.of(finished), arms=finished.arms, saved=saved)
        await self._ask(unsaved)
        return await asyncio.shield(saved)

    async def drained(self) -> None:
        """Return once every episode is announced, or held back until the next start."""
        while self._unsaved or self._counted.num_waiting > self._counted.num_held_back:
            self._changed.clear()
            await self._changed.wait()

    async def run(self) -> None:
        """Keep the child running until ``close``."""
        pause_s = _FIRST_PAUSE_S
        while not self._closing.is_set():
            started_s = time.monotonic()
            status = await self._life(is_first=not self.started.done())
            if self._closing.is_set() or not self.started.done() or self.started.exception() is not None:
                break
            self._note_death(status)
            pause_s = _FIRST_PAUSE_S if time.monotonic() - started_s > _SOUND_LIFE_S else pause_s
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._closing.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if not self.started.done():
            self.started.set_exception(WorkerCrashed(f"the saver's process did not start: see {self._folder / LOG_FILE}"))
        for episode_id in list(self._unsaved):
            self._lose(
                episode_id, WorkerCrashed(f"{episode_id} was not saved before the recorder ended: {self._unsaved[episode_id].trouble}")
            )

    def close(self) -> None:
        """Let the child save what it has in hand and end."""
        self._closing.set()
        if self._stdin is not None:
            self._stdin.close()

    def kill(self) -> None:
        """End a child that does not end by itself."""
        if self.pid is not None:
            _log.warning("saver.killed", pid=self.pid, grace_s=_GRACE_S)
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    # --- the child ----------------------------------------------------------------------------------------

    async def _life(self, *, is_first: bool) -> int:
        """Run the child once, and return its exit status."""
        self._is_ready = False
        process = await self._started(is_first=is_first)
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid, self._stdin = process.pid, process.stdin
        try:
            asking = asyncio.create_task(self._ask_again())
            while (news := await channel.receive_news(process.stdout)) is not None:
                self._take(news)
            await asking
            return await process.wait()
        finally:
            self.pid = self._stdin = None
            # Also when we are cancelled: the child ends with its pipe, and is not left behind if it does not.
            process.stdin.close()
            await asyncio.shield(_ended(process))

    async def _started(self, *, is_first: bool) -> asyncio.subprocess.Process:
        command = [*self._command, *(["--first"] if is_first else [])]
        path = self._folder / LOG_FILE
        mode = "wb" if path.exists() and path.stat().st_size > _MAX_LOG_BYTES else "ab"
        with path.open(mode) as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                pass_fds=(self._lock.fileno(),),
            )

    async def _ask_again(self) -> None:
        for unsaved in list(self._unsaved.values()):
            await self._ask(unsaved)

    async def _ask(self, unsaved: _Unsaved) -> None:
        async with self._sending:
            if self._stdin is None or unsaved.saved.done():
                return
            with suppress(ConnectionError):  # its death is noticed elsewhere, and then it is asked again
                await channel.send_request(self._stdin, unsaved.request, unsaved.arms)

    # --- news ---------------------------------------------------------------------------------------------

    def _take(self, news: FromSaver) -> None:
        match news:
            case Ready():
                self._is_ready = True
                if not self.started.done():
                    self.started.set_result(None)
            case Unusable(sentence=sentence):
                self._note_unusable(sentence)
            case Counted():
                self._counted = news
            case Lost(episode_id=episode_id, sentence=sentence):
                self._lose(episode_id, BadRaw(episode_id, f"is not saved: {sentence}"))
            case Saved(episode_id=episode_id):
                unsaved = self._unsaved.pop(episode_id, None)
                if unsaved is not None:
                    unsaved.saved.set_result(news)
                    self._on_progress(news)
            case _:
                if isinstance(news, Unsaved) and news.episode_id in self._unsaved:
                    self._unsaved[news.episode_id].trouble = news.sentence
                self._on_progress(news)
        self._changed.set()

    def _note_unusable(self, sentence: str) -> None:
        if self.started.done():
            _log.error("saver.unusable", error=sentence)
        else:
            self.started.set_exception(BadConfig("recorder", "", sentence))

    def _note_death(self, status: int) -> None:
        sentence = f"the saver's process ended with status {status} and is started again; {len(self._unsaved)} episodes are saved again"
        self._on_progress(Restarted(sentence=sentence))
        # They are saved one by one: it died over the first one, unless it died before it began.
        for episode_id, unsaved in list(self._unsaved.items())[: int(self._is_ready)]:
            unsaved.deaths += 1
            if unsaved.deaths >= _MAX_DEATHS:
                self._lose(episode_id, WorkerCrashed(f"{episode_id} is not saved: the saver's process died {_MAX_DEATHS} times over it"))

    def _lose(self, episode_id: str, error: BadRaw | WorkerCrashed) -> None:
        unsaved = self._unsaved.pop(episode_id, None)
        if unsaved is not None:
            unsaved.saved.set_exception(error)
            self._changed.set()


@asynccontextmanager
async def running_saver(folder: Path, *, config_path: Path, source: str, on_progress: Callable[[SaverNews], None]) -> AsyncIterator[Saver]:
    """Run a saver inside the block; at its end, what was given to ``save`` is saved, and what is not delivered waits on disk.

    Args:
        folder: the recorder's; made if missing, for one recorder at a time.
        config_path: the storage file.
        source: the name under which episodes are published.
        on_progress: called in the event loop with everything that happens.

    Raises:
        BadConfig: the storage file, or the source has no place to record to.
        Refused: another recorder uses the folder, or it cannot be used.
        WorkerCrashed: the saver's process does not start.
    """
    command = [sys.executable, "-m", "services.recorder.saving", "--folder", str(folder), "--config", str(config_path), "--source", source]
    with ExitStack() as stack:
        lock = await asyncio.to_thread(stack.enter_context, held(folder))
        saver = Saver(command, folder=folder, lock=lock, on_progress=on_progress)
        running = asyncio.create_task(saver.run())
        try:
            await asyncio.wait({running, saver.started}, return_when=asyncio.FIRST_COMPLETED)
            if saver.started.done():
                saver.started.result()
                yield saver
        finally:
            saver.close()
            if not (await asyncio.wait({running}, timeout=_GRACE_S))[0]:
                saver.kill()  # what it had saved is in the outbox
            await running


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except TimeoutError:
        _log.warning("saver.killed", pid=process.pid, grace_s=_GRACE_S)
        process.kill()
        await process.wait()
