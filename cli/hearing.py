"""How a recording hears of its episodes: by the events of the bus, and from the ledger where those may not be heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from cli.pending import recorder_folders
from services.recorder.recording import Recording
from services.recorder.saving.outbox import noted_episodes
from shared.bus import Bus
from shared.connection import Incoming
from shared.entry import Loaded, load
from shared.errors import EpisodeflowError, LedgerUnavailable
from shared.ledger import Ledger


@asynccontextmanager
async def listening(config_path: Path, environ: Mapping[str, str], take: Callable[[Incoming], None]) -> AsyncIterator[None]:
    """Hand the events of the bus to ``take`` inside the block, as soon as and where the person may hear them.

    Args:
        config_path: the storage file.
        environ: credentials.
        take: gets every event.
    """
    async with AsyncExitStack() as stack:
        connecting = asyncio.create_task(_subscribed(config_path, environ, take, stack))
        try:
            yield
        finally:
            connecting.cancel()
            await asyncio.wait({connecting})


async def _subscribed(config_path: Path, environ: Mapping[str, str], take: Callable[[Incoming], None], stack: AsyncExitStack) -> None:
    try:
        bus = await stack.enter_async_context(await Bus.connect(load(config_path, environ).storage.nats, name="record"))
        subscribed = await bus.connection.subscribe("episode.>", take)
    except EpisodeflowError:
        return  # the bus is away, or not for this person: the recording goes on, and the ledger knows what failed
    stack.push_async_callback(subscribed.end, drain=False)


async def failed_episodes(loaded: Loaded, recording: Recording) -> list[str]:
    """Return the kept episodes that have failed as far as the ledger knows; nothing while it is away."""
    try:
        async with Ledger(loaded.storage.redis) as ledger:
            states = {name: await ledger.states(recording.source, name) for name in recording.kept}
    except LedgerUnavailable:
        return []
    return [name for name, state_by_strategy in states.items() if "failed" in state_by_strategy.values()]


def noted_here(state: Path) -> frozenset[tuple[str, str]]:
    """Return source and name of every episode that was recorded with a state folder.

    Raises:
        Refused, StoreUnavailable: what was noted cannot be read.
    """
    return frozenset((each.source, each.episode_id) for folder in recorder_folders(state) for each in noted_episodes(folder))
