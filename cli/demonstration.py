"""What `episodeflow demo` does: a stack, simulated episodes through it, and how long each stage took."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Column, Table

from cli import simulation
from cli.embedding import Wish
from cli.stack import Stack
from cli.state import StateFolder, write_private
from cli.witness import Witness
from shared import logs
from shared.bus import Bus
from shared.config import LoggingConfig
from shared.errors import BadDataset, BusUnavailable, Rejected
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded
from shared.lerobot.check import check_dataset
from shared.lifecycle import stopped_by_signals
from shared.store_uri import parse_uri

SOURCE = "demo"
_SECONDS = 4.0
_CONFIG = "demo_storage.yaml"
_OUTCOME_TIMEOUT_S = 120.0
_TABLE_WIDTH = 100


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """One episode's way: when (monotonic seconds) it was recorded from and to, published, converted and uploaded, and where it is."""

    episode_id: str
    begun_s: float
    recorded_s: float
    ready_s: float
    converted_s: float
    uploaded_s: float
    frames: int
    dataset: Path


def demonstrate(folder: Path, num_episodes: int) -> None:
    """Run the demonstration in a state folder, and print what happens.

    Raises:
        Rejected: an episode failed (its sentence), or Ctrl-C.
        EpisodeflowError: the stack did not start.
    """
    logging = logs.Logging.configure(LoggingConfig(level="WARNING"))
    try:
        asyncio.run(_interruptible(StateFolder(folder), num_episodes))
    finally:
        logging.close()


async def _interruptible(state: StateFolder, num_episodes: int) -> None:
    stopping = asyncio.Event()
    with stopped_by_signals(stopping):
        running = asyncio.create_task(_demonstrated(state, num_episodes))
        interrupted = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            raise Rejected("interrupted; everything is stopped")
        await running


async def _demonstrated(state: StateFolder, num_episodes: int) -> None:
    begun_s = time.monotonic()
    async with Stack(state, _wish(state), os.environ) as stack:
        click.echo(f"NATS, Valkey, scanner, converter and uploader are up   {time.monotonic() - begun_s:5.1f} s")
        passages = await _passed(stack, num_episodes)
        _show(passages, await asyncio.to_thread(_check, passages))
    click.echo(f"everything is stopped again; the whole demo took {time.monotonic() - begun_s:.1f} s")
    _show_next(state, passages[0])


def _wish(state: StateFolder) -> Wish:
    """Write the files of a small lab with one robot, and return what to run."""
    state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    template, config = state.path / "demo_strategy.yaml", state.path / _CONFIG
    write_private(template, msgspec.yaml.encode(simulation.strategy_document()))
    document = {"sources": [SOURCE], "conversion": {"config_template": str(template)}, "redis": {"max_workers": 2}}
    write_private(config, msgspec.yaml.encode(document))
    return Wish(config=config)


async def _passed(stack: Stack, num_episodes: int) -> list[Passage]:
    raw = Path(parse_uri(stack.endpoints().raw[SOURCE]).root)
    async with await Bus.connect(stack.loaded.storage.nats, name="demo") as bus, Witness(bus) as witness:
        tasks = []
        try:
            for index in range(num_episodes):
                episode_id = f"episode_{int(time.time())}_{index + 1:04d}"
                begun_s = time.monotonic()
                await asyncio.to_thread(simulation.write_episode, raw / episode_id, seconds=_SECONDS, seed=index + 1)
                recorded_s = time.monotonic()
                await _announce(bus, episode_id)
                tasks.append(asyncio.create_task(_passage(witness, episode_id, begun_s, recorded_s)))
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


async def _announce(bus: Bus, episode_id: str) -> None:
    """Publish episode.ready, as a recorder does when the last file is written."""
    event = EpisodeReady(episode_id=episode_id, source=SOURCE, timestamp=time.time())
    await bus.publish(event, message_id=f"ready:{SOURCE}:{episode_id}:configured:{uuid.uuid4().hex}", deadline_s=10.0)


async def _passage(witness: Witness, episode_id: str, begun_s: float, recorded_s: float) -> Passage:
    try:
        async with asyncio.timeout(_OUTCOME_TIMEOUT_S):
            uploaded = await witness.outcome(episode_id)
    except TimeoutError as error:
        raise BusUnavailable(f"{episode_id} was neither uploaded nor failed within {_OUTCOME_TIMEOUT_S:g} s: see the logs") from error
    event = uploaded.event
    if isinstance(event, EpisodeFailed):
        raise Rejected(f"{episode_id} failed in the {event.stage}: {event.error}")
    assert isinstance(event, EpisodeUploaded)
    ready = await witness.sighting(EpisodeReady, episode_id=episode_id)
    converted = await witness.sighting(EpisodeConverted, episode_id=episode_id)
    return Passage(
        episode_id=episode_id,
        begun_s=begun_s,
        recorded_s=recorded_s,
        ready_s=ready.at_s,
        converted_s=converted.at_s,
        uploaded_s=uploaded.at_s,
        frames=event.frames,
        dataset=Path(parse_uri(event.uri).root),
    )


def _check(passages: list[Passage]) -> list[float]:
    """Check every dataset and return the seconds that each took.

    Raises:
        BadDataset: one has a problem.
    """
    durations_s = []
    for passage in passages:
        begun_s = time.monotonic()
        report = check_dataset(passage.dataset)
        if report.problems:
            first = report.problems[0]
            raise BadDataset(f"{passage.dataset}: {first.path}: {first.problem} ({len(report.problems)} problems)")
        durations_s.append(time.monotonic() - begun_s)
    return durations_s


def _show(passages: list[Passage], check_durations_s: list[float]) -> None:
    table = Table(
        Column("episode", no_wrap=True),
        "frames",
        "recorded",
        "ready",
        "converted",
        "uploaded",
        "checked",
        title="seconds per stage",
        title_justify="left",
    )
    for passage, check_s in zip(passages, check_durations_s, strict=True):
        seconds = (
            passage.recorded_s - passage.begun_s,
            passage.ready_s - passage.recorded_s,
            passage.converted_s - passage.ready_s,
            passage.uploaded_s - passage.converted_s,
            check_s,
        )
        table.add_row(passage.episode_id, str(passage.frames), *(f"{each:.2f}" for each in seconds))
    Console(width=max(Console().width, _TABLE_WIDTH)).print(table)
    for passage in passages:
        click.echo(f"checked dataset: {passage.dataset}")


def _show_next(state: StateFolder, passage: Passage) -> None:
    click.echo("try next:")
    click.echo(f"  episodeflow check {passage.dataset}")
    click.echo(f"  episodeflow up --state {state.path} -c {state.path / _CONFIG}     # the same stack, until Ctrl-C; in another terminal:")
    click.echo(f"  episodeflow publish -c {state.storage_path} -e {passage.episode_id} -s {SOURCE} --strategy chunking")
