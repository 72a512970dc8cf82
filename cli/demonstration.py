"""What `episodeflow demo` does: servers, a simulated robot, the recorder itself, and how long each stage took."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from cli.recording import Outcomes, Wishes, in_place, order_of, own_wish
from cli.simulation import CAMERAS, Ports, recording_document, simulated
from cli.stack import Stack
from cli.state import StateFolder, write_private
from cli.terminal import Terminal, own_terminal
from cli.witness import Sighting, Witness
from services.recorder.options import RecordOptions, record_options
from services.recorder.recording import Recording
from shared import logs
from shared.bus import Bus
from shared.config import LoggingConfig
from shared.entry import load
from shared.errors import BadDataset, Refused, Rejected
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded
from shared.lerobot.check import Report, check_dataset
from shared.lifecycle import EXIT_INTERRUPTED, stopped_by_signals
from shared.settings import read_yaml

EPISODE_TIME_S = 4.0
_RESET_TIME_S = 0.5
_FLAGS_FILE = "record.yaml"
_IN_PLACE_TIMEOUT_S = 120.0
_OUTCOME_TIMEOUT_S = 10.0
_TABLE_WIDTH = 80


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """One episode's way into the dataset.

    Attributes:
        index: its number in the dataset.
        frames: rows of the dataset.
        recorded_s: how long it is.
        announced_s: from its end to ``episode.ready``.
        converted_s: from there to ``episode.converted``.
        committed_s: from there until it was in the dataset.
    """

    index: int
    frames: int
    recorded_s: float
    announced_s: float
    converted_s: float
    committed_s: float

    @property
    def behind_s(self) -> float:
        """From its end until it was in the dataset."""
        return self.announced_s + self.converted_s + self.committed_s


def demonstrate(folder: Path, num_episodes: int) -> None:
    """Run the demonstration in a state folder, and print what happens.

    Raises:
        Refused: something else runs in the folder.
        EpisodeflowError: a stage failed, in one sentence.
        click.exceptions.Exit: after Ctrl-C.
    """
    state = StateFolder(folder)
    if state.is_held():
        raise Refused(f"{state.path} is in use by another `episodeflow up` or `record`: stop that one, or choose another --state")
    logging = logs.Logging.configure(LoggingConfig(level="ERROR", format="console"))
    try:
        is_complete = asyncio.run(_completed(state, num_episodes))
    finally:
        logging.close()
    if not is_complete:
        click.echo(f"interrupted: everything is stopped, the files are in {state.path}", err=True)
        raise click.exceptions.Exit(EXIT_INTERRUPTED)


async def _completed(state: StateFolder, num_episodes: int) -> bool:
    """Run until the end or a signal, and say whether it was the end."""
    wishes = Wishes(stopping=asyncio.Event(), leaving=asyncio.Event())
    with stopped_by_signals(wishes.leaving):
        running = asyncio.create_task(_demonstrated(state, num_episodes, wishes))
        interrupted = asyncio.create_task(wishes.leaving.wait())
        await asyncio.wait({running, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        interrupted.cancel()
        if not running.done():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            return False
        await running
    return True


async def _demonstrated(state: StateFolder, num_episodes: int, wishes: Wishes) -> None:
    environ = dict(os.environ)
    begun_s = time.monotonic()
    async with simulated(state, environ) as ports:
        _tell_up("a simulated robot is up: two leaders, two followers, four serial ports", begun_s)
        options = _options(state, ports, num_episodes)
        stack_begun_s = time.monotonic()
        async with Stack(state, own_wish(options, state), environ):
            _tell_up("NATS, Valkey, scanner, converter and uploader are up", stack_begun_s)
            passages = await _recorded(options, state, environ, wishes)
            report = await asyncio.to_thread(_checked, _dataset(options))
            _show(passages)
    click.echo(f"checked dataset: {_dataset(options)} ({report.episodes} episodes, {report.frames} frames, {report.videos} videos)")
    click.echo(f"everything is stopped again; the whole demo took {time.monotonic() - begun_s:.1f} s")
    _show_next(state, options, num_episodes=report.episodes + num_episodes)


def _tell_up(text: str, begun_s: float) -> None:
    click.echo(f"{text:72}{time.monotonic() - begun_s:5.1f} s")


def _options(state: StateFolder, ports: Ports, num_episodes: int) -> RecordOptions:
    """Write the flags of `record` into a file, and return what `record` reads there."""
    path = state.path / _FLAGS_FILE
    document = recording_document(ports, state, num_episodes=num_episodes, episode_time_s=EPISODE_TIME_S, reset_time_s=_RESET_TIME_S)
    write_private(path, msgspec.yaml.encode(document))
    return record_options([], file=read_yaml(path, {}), place=str(path))


def _dataset(options: RecordOptions) -> Path:
    assert options.dataset.root is not None
    return Path(options.dataset.root)


# --- recording --------------------------------------------------------------------------------------------


async def _recorded(options: RecordOptions, state: StateFolder, environ: Mapping[str, str], wishes: Wishes) -> list[Passage]:
    """Record, wait until the episodes are in the dataset, and return how they came there."""
    storage = load(state.storage_path, environ).storage
    with own_terminal(is_spoken=False) as terminal:
        recording = await _prepared(options, state, environ, terminal)
        outcomes = Outcomes(recording, terminal)
        async with await Bus.connect(storage.nats, name="demo") as bus, Witness(bus) as witness:
            listening = await bus.connection.subscribe("episode.>", outcomes.take)
            try:
                await recording.run(wishes.stopping, wishes.leaving)
                await _all_in_place(recording, state, wishes, terminal)
                return [await _passage(witness, episode_id, state) for episode_id in recording.kept]
            finally:
                await listening.end(drain=False)


async def _prepared(options: RecordOptions, state: StateFolder, environ: Mapping[str, str], terminal: Terminal) -> Recording:
    """Return a recording that begins the dataset, or goes on with the one of an earlier demonstration in this folder."""
    loaded = load(state.storage_path, environ, service="recorder")
    num_there = (await Recording(order_of(options, loaded, state.path, environ), terminal).look()).num_there
    dataset, camera = options.dataset, next(iter(options.cameras.values()))
    terminal.tell(
        f"recording {dataset.num_episodes} x {dataset.episode_time_s:g} s: arms at {options.control_rate_hz:g} Hz, "
        f"{len(CAMERAS)} cameras {camera.width}x{camera.height} at {camera.fps} fps"
    )
    dataset = msgspec.structs.replace(dataset, num_episodes=num_there + dataset.num_episodes, resume=num_there > 0)
    return Recording(order_of(msgspec.structs.replace(options, dataset=dataset), loaded, state.path, environ), terminal)


async def _all_in_place(recording: Recording, state: StateFolder, wishes: Wishes, terminal: Terminal) -> None:
    if not recording.kept:
        raise Rejected("no episode was recorded: run `episodeflow demo` again, and leave the keys alone")
    try:
        async with asyncio.timeout(_IN_PLACE_TIMEOUT_S):
            await in_place(recording, wishes, terminal)
    except TimeoutError as error:
        raise Rejected(f"the episodes are not in the dataset within {_IN_PLACE_TIMEOUT_S:g} s: see {state.logs}") from error


async def _passage(witness: Witness, episode_id: str, state: StateFolder) -> Passage:
    """Return the way of an episode of which nothing is pending any more; its last event may still be on the wire."""
    try:
        async with asyncio.timeout(_OUTCOME_TIMEOUT_S):
            outcome = await witness.outcome(episode_id)
    except TimeoutError as error:
        raise Rejected(f"{episode_id} is neither in the dataset nor failed: see {state.logs}") from error
    event = outcome.event
    if isinstance(event, EpisodeFailed):
        raise Rejected(f"{episode_id} failed in the {event.stage}: {event.error}")
    assert isinstance(event, EpisodeUploaded)
    ready = await witness.sighting(EpisodeReady, episode_id=episode_id)
    converted = await witness.sighting(EpisodeConverted, episode_id=episode_id)
    return Passage(
        index=event.episode_index or 0,
        frames=event.frames,
        recorded_s=event.duration_s,
        announced_s=_epoch_s(ready) - event.timestamp,  # the timestamp is the episode's end
        converted_s=converted.at_s - ready.at_s,
        committed_s=outcome.at_s - converted.at_s,
    )


def _epoch_s(sighting: Sighting) -> float:
    """Return when an event went by, in seconds since the epoch."""
    return time.time() - (time.monotonic() - sighting.at_s)


# --- what a person sees at the end ------------------------------------------------------------------------


def _checked(dataset: Path) -> Report:
    """Check the dataset and return the report.

    Raises:
        BadDataset: it has a problem.
    """
    report = check_dataset(dataset)
    if report.problems:
        first = report.problems[0]
        raise BadDataset(f"{dataset}: {first.path}: {first.problem} ({len(report.problems)} problems)")
    return report


def _show(passages: list[Passage]) -> None:
    table = Table("episode", "frames", "recorded", "announced", "converted", "in dataset", "sum")
    for passage in passages:
        seconds = (passage.recorded_s, passage.announced_s, passage.converted_s, passage.committed_s, passage.behind_s)
        table.add_row(str(passage.index + 1), str(passage.frames), *(f"{each:.2f}" for each in seconds))
    click.echo("\nseconds per stage; the sum is from an episode's end until it is in the dataset")
    Console(width=max(Console().width, _TABLE_WIDTH)).print(table)


def _show_next(state: StateFolder, options: RecordOptions, *, num_episodes: int) -> None:
    program, folder = _program(), shlex.quote(str(state.path))
    click.echo(
        "\ntry next:\n"
        f"  {program} check {shlex.quote(str(_dataset(options)))} --provenance\n"
        f"  {program} simulate     # the robot again; in another terminal, with the flags that it prints:\n"
        f"  {program} record --config_path {folder}/{_FLAGS_FILE} --state {folder} \\\n"
        f"    --dataset.resume=true --dataset.num_episodes={num_episodes} --robot.type=… --teleop.type=…\n"
        f"  {program} up --state {folder} -c {folder}/record_storage.yaml     # the same servers until Ctrl-C"
    )


def _program() -> str:
    """Return how this program is called in the shell it was called from."""
    return "episodeflow" if shutil.which("episodeflow") else shlex.quote(sys.argv[0])
