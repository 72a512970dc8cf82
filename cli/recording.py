"""What `episodeflow record` does around the recorder: servers, the person at the terminal, and the dataset in its place.

With a storage file it uses the servers named there. Without one it runs its own, and does not end before every episode is in
the dataset, or has failed with a sentence.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cli.embedding import Wish
from cli.hearing import failed_episodes, listening, noted_here
from cli.joining import servers
from cli.pending import RECORDERS, num_pending, pending_folders, wanted_folder
from cli.state import StateFolder, write_private
from cli.terminal import Terminal, own_terminal
from services.recorder.options import RecordOptions
from services.recorder.order import OWN_SOURCE, Order, chosen_source
from services.recorder.recipe import strategy_document
from services.recorder.recording import Recording
from services.recorder.remote import robot_token
from services.recorder.room import check_writable
from services.recorder.target import Stranded, stranded_sentence
from shared import logs
from shared.config import LoggingConfig
from shared.connection import Incoming
from shared.entry import Loaded, load
from shared.errors import BadConfig, EpisodeflowError, Refused, Rejected
from shared.events import EpisodeFailed, EpisodeUploaded, decode
from shared.lifecycle import ASKING, handled_signals, leave_at_once
from shared.places import Place
from shared.store_uri import parse_uri

if TYPE_CHECKING:
    from shared.lerobot.hub import HubTarget, Progress

OWN_STORAGE = "record_storage.yaml"
"""Storage file of our own stack, in the state folder."""
_NICENESS = 10
_LOOK_EVERY_S = 0.5


class Wishes(msgspec.Struct, frozen=True):
    """What a person at the keyboard wants: ``stopping`` ends the recording, ``leaving`` ends the waiting after it."""

    stopping: asyncio.Event
    leaving: asyncio.Event


async def record(options: RecordOptions, *, config_path: Path | None, state_path: Path | None, environ: Mapping[str, str]) -> None:
    """Record, and print what happens.

    Args:
        options: what to record.
        config_path: storage file with the servers; None: our own.
        state_path: folder for what has not gone out, and for our own servers; None: below the user's state folder.
        environ: credentials, and where LeRobot's files lie.

    Raises:
        EpisodeflowError: one sentence.
    """
    state = state_path or default_state(environ)
    logging = logs.Logging.configure(LoggingConfig(level="ERROR", format="console"), stream=sys.stderr)
    wishes = Wishes(asyncio.Event(), asyncio.Event())
    try:
        if options.dataset.push_to_hub:
            await check_hub(options)
        with _wished(wishes), own_terminal(is_spoken=options.play_sounds) as terminal:
            if config_path is not None:
                await _with_servers(options, config_path, state, environ, wishes, terminal)
            else:
                await _on_this_host(options, StateFolder(state), environ, wishes, terminal)
    finally:
        logging.close()


def default_state(environ: Mapping[str, str]) -> Path:
    """Return where this user's recorder keeps what has not gone out yet: the XDG state folder."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "episodeflow"


async def _with_servers(
    options: RecordOptions, config_path: Path, state: Path, environ: Mapping[str, str], wishes: Wishes, terminal: Terminal
) -> None:
    """Record with the servers of a storage file; what becomes of the episodes is theirs, unless the dataset is pushed."""
    if options.dataset.root is not None:
        problem = "does not go with -c: the storage file says where datasets lie (datasets.root or datasets.folders)"
        raise BadConfig("--dataset.root", "", problem)
    if not options.keep_raw:
        raise BadConfig("--keep_raw=false", "", "does not go with -c: raw episodes belong to whoever keeps the store")
    loaded = load(config_path, environ, service="recorder")
    recording = Recording(order_of(options, loaded, state, environ), terminal)
    dataset = loaded.places().dataset(options.dataset.repo_id)
    if options.dataset.push_to_hub and parse_uri(dataset.uri).scheme != "file":
        problem = f"needs the dataset in a folder, it lies in {dataset.uri}: copy it when it is complete, and run `episodeflow push`"
        raise BadConfig("--dataset.push_to_hub=true", "", problem)
    outcomes = Outcomes(recording, terminal, earlier=await asyncio.to_thread(noted_here, state))
    async with listening(config_path, environ, outcomes.take):
        await recording.run(wishes.stopping, wishes.leaving)
        if options.dataset.push_to_hub:
            await in_place(recording, wishes, terminal)
            await _pushed(options, recording, wishes, terminal)
        else:
            terminal.tell(f"dataset: {dataset.uri}")
        failed = outcomes.failed | dict.fromkeys(await failed_episodes(loaded, recording))
    _check_outcome(failed, config_path)


async def _on_this_host(options: RecordOptions, state: StateFolder, environ: Mapping[str, str], wishes: Wishes, terminal: Terminal) -> None:
    """Run the servers here, record, and wait until every episode is in the dataset."""
    wish = Wish() if state.is_held() else await _checked_wish(options, state, environ, wishes, terminal)
    async with servers(state, wish, environ, tell=terminal.tell, leaving=wishes.leaving) as config_path:
        loaded = load(config_path, environ, service="recorder")
        recording = Recording(order_of(options, loaded, state.path, environ), terminal)
        await asyncio.to_thread(_check_folder, options, loaded)
        outcomes = Outcomes(recording, terminal, earlier=await asyncio.to_thread(noted_here, state.path))
        async with listening(config_path, environ, outcomes.take):
            try:
                await recording.run(wishes.stopping, wishes.leaving)
            except EpisodeflowError:
                if recording.kept:  # an arm that is lost takes nothing with it
                    await in_place(recording, wishes, terminal)
                raise
            await in_place(recording, wishes, terminal)
        await _tidied(options, recording, loaded, outcomes, terminal)
        if options.dataset.push_to_hub:
            await _pushed(options, recording, wishes, terminal)
        _check_outcome(outcomes.failed, config_path, own=state)


async def _checked_wish(options: RecordOptions, state: StateFolder, environ: Mapping[str, str], wishes: Wishes, terminal: Terminal) -> Wish:
    """Return the stack for this recording, after a look at what is still on its way to other folders.

    Raises:
        BadConfig: something is on its way to another folder of the same dataset.
        Refused: the folder of the dataset, or the state folder, cannot be written.
    """
    repo_id, wanted = options.dataset.repo_id, wanted_folder(options.dataset, environ)
    await asyncio.to_thread(check_writable, wanted)
    folders = await pending_folders(state.path)
    found = folders.get(repo_id, wanted)
    if found != wanted:
        # Only running servers know what has failed; they run for the old folder, so that nothing goes astray meanwhile.
        wish = own_wish(options, state, folders=folders)
        async with servers(state, wish, environ, tell=terminal.tell, leaving=wishes.leaving) as config_path:
            waiting = await num_pending(state.path, load(config_path, environ), repo_id)
        if waiting:
            stranded = Stranded(uri=found.as_uri(), num_pending=waiting)
            raise BadConfig(f"--dataset.repo_id={repo_id}", "", stranded_sentence(stranded, wanted=wanted.as_uri()))
    return own_wish(options, state, folders={**folders, repo_id: wanted})


def _check_outcome(failed: Mapping[str, None], config_path: Path, *, own: StateFolder | None = None) -> None:
    """Name the episodes that failed, and how they get into the dataset all the same.

    Raises:
        Rejected: there are some.
    """
    if not failed:
        return
    start = f"start the servers with `episodeflow up --state {own.path} -c {own.path / OWN_STORAGE}`, then " if own else ""
    raise Rejected(
        f"{len(failed)} episodes are not in the dataset: {', '.join(failed)}; their raw episodes are kept: {start}see why with "
        f"`episodeflow failed list -c {config_path}`, mend it, and bring them in with `episodeflow failed republish -c {config_path} "
        "EPISODE …`; what cannot be mended, record again with --dataset.resume=true"
    )


async def _tidied(options: RecordOptions, recording: Recording, loaded: Loaded, outcomes: Outcomes, terminal: Terminal) -> None:
    """Remove the raw episodes that are in the dataset, if that is wanted; say where they are, if it is not."""
    root = loaded.places().raw_root(recording.source)
    if not recording.kept or not isinstance(root, Place):
        return
    folder = Path(parse_uri(root.uri).root)
    if options.keep_raw:
        terminal.tell(f"raw episodes are kept in {folder}; --keep_raw=false removes them once they are in the dataset")
        return
    for episode_id in outcomes.arrived:
        await asyncio.to_thread(shutil.rmtree, folder / episode_id, ignore_errors=True)
    terminal.tell(f"{len(outcomes.arrived)} raw episodes are removed from {folder}")


async def _pushed(options: RecordOptions, recording: Recording, wishes: Wishes, terminal: Terminal) -> None:
    """Bring the dataset to the Hub, old and new episodes together."""
    from cli.push import sentence  # noqa: PLC0415 - the Hub's library takes a second to load
    from shared.lerobot.hub import push_dataset  # noqa: PLC0415

    assert recording.target is not None
    if recording.target.info is None or wishes.leaving.is_set():
        terminal.tell(f"{options.dataset.repo_id} is not pushed: `episodeflow push` does it later")
        return
    folder = Path(parse_uri(recording.target.uri).root)

    def show(progress: Progress) -> None:
        text = (
            f"pushing {progress.num_files}/{progress.total_files} files, {progress.num_bytes / 1e6:.0f}/{progress.total_bytes / 1e6:.0f} MB"
        )
        terminal.show(f"{text}: {progress.waiting}" if progress.waiting else text)

    pushed = await asyncio.to_thread(push_dataset, folder, hub_target(options), on_progress=show)
    terminal.show("")
    terminal.tell(f"{folder}: {sentence(pushed)}")


def hub_target(options: RecordOptions) -> HubTarget:
    """Return where the dataset is pushed to."""
    from shared.lerobot.hub import HubTarget  # noqa: PLC0415

    dataset = options.dataset
    return HubTarget(repo_id=dataset.repo_id, is_private=dataset.private, tags=dataset.tags or ())


async def check_hub(options: RecordOptions) -> None:
    """Make sure that the dataset could be pushed at the end, before anything moves.

    Raises:
        Rejected, Retryable: see ``shared.lerobot.hub.check_access``.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # huggingface_hub reads it when it is imported
    from shared.lerobot.hub import check_access  # noqa: PLC0415

    await asyncio.to_thread(check_access, hub_target(options))


async def in_place(recording: Recording, wishes: Wishes, terminal: Terminal) -> None:
    """Wait until nothing that was recorded here is on its way any more, and say what the dataset has."""
    target = await recording.look()
    while target.num_pending and not wishes.leaving.is_set():
        terminal.show(f"{target.num_pending} episodes are being converted (Ctrl-C leaves them for the next start)")
        await asyncio.sleep(_LOOK_EVERY_S)  # what happens to an episode is told, but what the dataset holds is what counts
        target = await recording.look()
    terminal.show("")
    if target.num_pending:
        terminal.tell(f"{target.num_pending} episodes are not converted yet: the next `episodeflow record` or `up` goes on with them")
    terminal.tell(f"dataset: {target.uri}: {target.summary}")


def order_of(options: RecordOptions, loaded: Loaded, state: Path, environ: Mapping[str, str]) -> Order:
    """Return the recorder's order: its source, and its folder below the state folder, one for each robot."""
    folder = state / RECORDERS / robot_token(options.robot.id or options.robot.type)
    return Order(options=options, loaded=loaded, source=chosen_source(options, loaded), folder=folder, environ=environ)


def own_wish(options: RecordOptions, state: StateFolder, *, folders: Mapping[str, Path] | None = None) -> Wish:
    """Return the stack of a laptop with one robot: its files are written, and its services stand back for the recorder.

    Args:
        options: of the recording.
        state: where the files are written.
        folders: of datasets by name; None: the recorded one alone, if it has a folder of its own.

    Raises:
        Refused: the files cannot be written.
    """
    own = {options.dataset.repo_id: Path(options.dataset.root).expanduser().absolute()} if options.dataset.root else {}
    return Wish(config=_storage_file(options, state, own if folders is None else folders), niceness=_NICENESS)


def _storage_file(options: RecordOptions, state: StateFolder, folders: Mapping[str, Path]) -> Path:
    """Write the files of a laptop with one robot, and return the storage file."""
    template, config = state.path / "record_strategy.yaml", state.path / OWN_STORAGE
    name_by_folder = {str(folder): name for name, folder in folders.items()}  # two names cannot share one: the last one has it
    document = {
        "sources": [OWN_SOURCE],
        "datasets": {"folders": {name: folder for folder, name in name_by_folder.items()}},
        "conversion": {"config_template": str(template)},
        "redis": {"max_workers": 1},
    }
    try:
        state.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(template, msgspec.yaml.encode(strategy_document(options)))
        write_private(config, msgspec.yaml.encode(document))
    except OSError as error:
        raise Refused(f"{state.path} cannot be the state folder: {error}; choose another with --state") from error
    return config


def _check_folder(options: RecordOptions, loaded: Loaded) -> None:
    """Refuse another folder than the one in which running servers would put the dataset, and one that cannot be written."""
    place = loaded.places().dataset(options.dataset.repo_id)
    if options.dataset.root is not None and Path(parse_uri(place.uri).root) != Path(options.dataset.root).expanduser().absolute():
        raise Rejected(f"--dataset.root={options.dataset.root}: the servers that run here put {options.dataset.repo_id} into {place.uri}")
    if parse_uri(place.uri).scheme == "file":
        check_writable(Path(parse_uri(place.uri).root))


class Outcomes:
    """What becomes of the episodes of one run, as the events go by.

    Args:
        recording: whose episodes.
        terminal: where it is told.
        earlier: source and name of the episodes that were recorded here before; one of them that fails is told as well.
    """

    def __init__(self, recording: Recording, terminal: Terminal, *, earlier: frozenset[tuple[str, str]] = frozenset()) -> None:
        self.failed: dict[str, None] = {}
        self.arrived: dict[str, None] = {}
        self._recording = recording
        self._terminal = terminal
        self._earlier = earlier

    def take(self, incoming: Incoming) -> None:
        """Look at an event."""
        try:
            if incoming.subject.startswith("episode.uploaded."):
                self._take_uploaded(decode(incoming.body, EpisodeUploaded))
            elif incoming.subject.startswith("episode.failed."):
                self._take_failed(decode(incoming.body, EpisodeFailed))
        except EpisodeflowError as error:
            self._terminal.tell(f"an event on the bus cannot be read: {error}")

    def _take_uploaded(self, uploaded: EpisodeUploaded) -> None:
        if self._is_ours(uploaded.source, uploaded.episode_id):
            self.failed.pop(uploaded.episode_id, None)
        if uploaded.episode_id in self._recording.kept:
            self.arrived[uploaded.episode_id] = None
            index = "" if uploaded.episode_index is None else f" as episode {uploaded.episode_index}"
            delay_s = time.time() - uploaded.timestamp
            self._terminal.tell(f"{uploaded.episode_id} is in the dataset{index} ({uploaded.frames} frames), {delay_s:.1f} s after its end")

    def _take_failed(self, failed: EpisodeFailed) -> None:
        if self._is_ours(failed.source, failed.episode_id):
            self.failed[failed.episode_id] = None
            self._terminal.say(f"{failed.episode_id} failed in the {failed.stage}: {failed.error}")

    def _is_ours(self, source: str, episode_id: str) -> bool:
        return episode_id in self._recording.kept or (source, episode_id) in self._earlier


@contextmanager
def _wished(wishes: Wishes) -> Iterator[None]:
    """Inside the block, let the first Ctrl-C end the recording, the second one the waiting, and the third the process.

    A connection that breaks (SIGHUP) must not leave a robot under torque: it ends recording and waiting in good order, and
    whoever asks for the end after that does not know it yet, so does not insist.
    """
    is_asked = False

    def on_interrupt(_: signal.Signals) -> None:
        nonlocal is_asked
        if is_asked and wishes.leaving.is_set():
            leave_at_once()
        is_asked = True
        (wishes.leaving if wishes.stopping.is_set() else wishes.stopping).set()

    def on_hang_up(_: signal.Signals) -> None:
        nonlocal is_asked
        is_asked = False
        wishes.stopping.set()
        wishes.leaving.set()

    with handled_signals({**dict.fromkeys(ASKING, on_interrupt), signal.SIGHUP: on_hang_up}):
        yield
