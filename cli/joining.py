"""The servers of one laptop, for a command that needs them: a stack that runs already in the state folder, or one of its own.

Whoever joins holds a shared lock; the owner of the stack waits for it before it stops the servers under somebody's hands.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TextIO

from cli.embedding import Wish
from cli.stack import Stack
from cli.state import StateFolder
from shared.errors import Refused

_GUESTS = "guests.lock"
_READY_TIMEOUT_S = 60.0
_PAUSE_S = 0.1


@asynccontextmanager
async def servers(
    state: StateFolder, wish: Wish, environ: Mapping[str, str], *, tell: Callable[[str], None], leaving: asyncio.Event
) -> AsyncIterator[Path]:
    """Give the storage file of running servers for the block.

    Args:
        state: the stack's folder.
        wish: what to run where nothing runs yet.
        environ: of the services.
        tell: told what is waited for.
        leaving: set when nobody wants to wait any more, for the guests either.

    Raises:
        Refused: the stack does not get ready.
    """
    if state.is_held():
        await _until_ready(state)
        with _as_guest(state):
            yield state.storage_path
        return
    async with Stack(state, wish, environ) as stack:
        for notice in stack.notices:
            tell(f"notice: {notice}")
        yield state.storage_path
        await _until_alone(state, tell, leaving)


async def _until_ready(state: StateFolder) -> None:
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while not state.endpoints_path.exists():  # noqa: ASYNC110 - the other process tells nobody but by this file
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        raise Refused(f"{state.path}: another process holds it, but its servers did not get ready: see {state.logs}") from error


@contextmanager
def _as_guest(state: StateFolder) -> Iterator[None]:
    with _opened(state) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


async def _until_alone(state: StateFolder, tell: Callable[[str], None], leaving: asyncio.Event) -> None:
    """Wait until every guest has gone."""
    is_told = False
    with _opened(state) as lock:
        while not leaving.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not is_told:
                    tell("another recording still uses these servers: waiting for it (Ctrl-C stops them)")
                is_told = True
                await asyncio.sleep(_PAUSE_S)  # a lock tells nobody when it is free without blocking
            else:
                return


def _opened(state: StateFolder) -> TextIO:
    return (state.path / _GUESTS).open("w")
