"""Around a recording: the files of our own stack, and what is said of episodes that fail."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cli.recording import Outcomes, _check_outcome, order_of, own_wish
from cli.state import StateFolder
from cli.terminal import Terminal
from services.recorder.recording import Recording
from shared import events
from shared.connection import Incoming
from shared.entry import load
from shared.errors import Refused, Rejected
from shared.events import EpisodeReady, EpisodeUploaded
from tests.cli.labs import failed
from tests.services.recorder.arrangements import options


def test_datasets_keep_the_folders_that_episodes_on_their_way_were_recorded_for(tmp_path: Path) -> None:
    folders = {"lab/old": tmp_path / "old", "lab/blocks": tmp_path / "new"}
    wish = own_wish(options(), StateFolder(tmp_path / "state"), folders=folders)

    assert wish.config is not None
    assert load(wish.config, {}).storage.datasets.folders == {name: str(folder) for name, folder in folders.items()}


def test_a_folder_belongs_to_the_dataset_that_is_recorded_now(tmp_path: Path) -> None:
    folders = {"lab/old": tmp_path / "same", "lab/blocks": tmp_path / "same"}
    wish = own_wish(options(), StateFolder(tmp_path / "state"), folders=folders)

    assert wish.config is not None
    assert load(wish.config, {}).storage.datasets.folders == {"lab/blocks": str(tmp_path / "same")}


def test_a_state_folder_below_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Refused, match=r"file/state cannot be the state folder: .*; choose another with --state"):
        own_wish(options(), StateFolder(tmp_path / "file" / "state"))


class Run:
    """A run that kept ``mine``, after an earlier one that recorded ``earlier``."""

    def __init__(self, folder: Path) -> None:
        state = StateFolder(folder / "state")
        wish = own_wish(options(), state)
        assert wish.config is not None
        self.output = io.StringIO()
        terminal = Terminal(keyboard=None, output=self.output)
        recording = Recording(order_of(options(), load(wish.config, {}), state.path, {}), terminal)
        recording.kept.append("mine")
        self.outcomes = Outcomes(recording, terminal, earlier=frozenset({("robot", "earlier")}))

    def hear(self, event: EpisodeReady) -> None:
        self.outcomes.take(Incoming(subject=events.subject(event), reply="", body=events.encode(event), status=None))


def uploaded(episode_id: str) -> EpisodeUploaded:
    return EpisodeUploaded(
        episode_id=episode_id,
        source="robot",
        spool="s",
        path="p",
        frames=3,
        duration_s=0.1,
        num_bytes=9,
        digest="sha256:0",
        uri="file:///d",
    )


@pytest.mark.parametrize(("episode_id", "source", "is_told"), [
    ("mine", "robot", True),
    ("earlier", "robot", True),
    ("earlier", "other", False),
    ("theirs", "robot", False),
])  # fmt: skip
def test_every_episode_of_this_host_that_fails_is_told(tmp_path: Path, episode_id: str, source: str, is_told: bool) -> None:
    run = Run(tmp_path)
    run.hear(failed(episode_id, "no joints", source=source))

    assert list(run.outcomes.failed) == [episode_id] * is_told
    assert (f"{episode_id} failed in the converter: no joints" in run.output.getvalue()) is is_told


def test_what_arrives_after_all_has_not_failed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for episode_id in ("mine", "earlier"):
        run.hear(failed(episode_id, source="robot"))
        run.hear(uploaded(episode_id))

    assert (run.outcomes.failed, list(run.outcomes.arrived)) == ({}, ["mine"])


def test_episodes_that_failed_are_named_with_the_way_to_bring_them_in(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        _check_outcome({"a": None, "b": None}, Path("lab.yaml"))

    assert str(caught.value).startswith("2 episodes are not in the dataset: a, b; their raw episodes are kept: see why with ")
    assert "`episodeflow failed republish -c lab.yaml EPISODE …`" in str(caught.value)


def test_on_a_laptop_its_servers_are_started_first(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=rf"`episodeflow up --state {tmp_path} -c {tmp_path}/record_storage.yaml`, then see why"):
        _check_outcome({"a": None}, tmp_path / "storage.yaml", own=StateFolder(tmp_path))
