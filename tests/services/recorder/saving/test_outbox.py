"""An episode is in the outbox whole or not at all, whatever an earlier try has left, and leaves it only with its line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.recorder.saving.episode import FinishedEpisode
from services.recorder.saving.news import Removed
from services.recorder.saving.outbox import HELD_BACK_FILE, Outbox, held, noted_episodes, recorded_episodes
from shared.errors import BadRaw, Refused
from shared.events import EpisodeReady
from tests.services.recorder.saving.labs import arms

TIMES_US = (1_764_564_821_000_000, 1_764_564_823_500_000)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path)
    yield made
    made.close()


def record(outbox: Outbox, episode_id: str, *, dataset: str | None = "lab/stacking") -> FinishedEpisode:
    folder = outbox.recording / episode_id
    (folder / "images" / "cam").mkdir(parents=True)
    for time_us in TIMES_US:
        (folder / "images" / "cam" / f"{time_us}.jpg").write_bytes(b"image")
    event = EpisodeReady(episode_id=episode_id, source="lab", timestamp=1e9, dataset=dataset, task="Stack.")
    return FinishedEpisode(event=event, folder=folder, arms=arms(), metadata={"fps": 30}, num_frames=2)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


ARM_FILES = [f"raw/joints/{arm}.parquet" for arm in ("left_master", "left_slave")]
WHOLE = [
    "event.json",
    *(f"raw/images/cam/{time_us}.jpg" for time_us in TIMES_US),
    *(f"raw/joints/{name}" for name in ("left_master.parquet", "left_slave.parquet", "metadata.json")),
    *(f"raw/joints/{name}" for name in ("right_master.parquet", "right_slave.parquet")),
]


def test_a_saved_episode_lies_in_the_outbox_with_its_event_and_nothing_else(outbox: Outbox) -> None:
    finished = record(outbox, "e1")
    parcel, num_bytes = outbox.save(finished, "nonce")

    assert files(outbox.outbox / "e1") == WHOLE
    assert not finished.folder.exists()
    assert num_bytes == sum((outbox.outbox / "e1" / name).stat().st_size for name in WHOLE)
    assert outbox.parcels() == [parcel]
    assert parcel.message_id == "ready:lab:e1:configured:nonce"
    metadata = msgspec.json.decode((outbox.raw(parcel) / "joints" / "metadata.json").read_bytes())
    event = {"source": "lab", "episode_id": "e1", "dataset": "lab/stacking", "strategy": None, "config_overrides": {}}
    assert metadata == {"fps": 30, **event, "nonce": "nonce"}


@pytest.mark.parametrize("num_steps", range(4))
def test_saving_goes_on_from_wherever_it_was_cut_off(outbox: Outbox, num_steps: int) -> None:
    finished = record(outbox, "e1")
    steps = [
        (finished.folder / "raw").mkdir,
        lambda: (finished.folder / "images").rename(finished.folder / "raw" / "images"),
        (finished.folder / "raw" / "joints").mkdir,
        lambda: (finished.folder / "raw" / "joints" / "left_slave.parquet").write_bytes(b"half of"),
    ]
    for step in steps[: num_steps + 1]:
        step()
    outbox.save(finished, "nonce")

    assert files(outbox.outbox / "e1") == WHOLE
    assert (outbox.outbox / "e1" / "raw" / "joints" / "left_slave.parquet").stat().st_size > 1000


def test_saving_again_what_is_saved_gives_the_same_parcel(outbox: Outbox) -> None:
    finished = record(outbox, "e1")
    first = outbox.save(finished, "nonce")

    assert outbox.save(finished, "nonce") == first


def test_a_second_episode_of_the_same_name_is_refused_and_stays(outbox: Outbox) -> None:
    outbox.save(record(outbox, "e1"), "first")
    second = record(outbox, "e1")

    with pytest.raises(BadRaw, match="outbox/e1: is there already"):
        outbox.save(second, "second")
    assert second.folder.is_dir()


def test_the_order_of_recording_survives_a_restart(outbox: Outbox, tmp_path: Path) -> None:
    for name in ("c", "a"):
        outbox.save(record(outbox, name), name)
    again = Outbox(tmp_path)
    again.save(record(again, "b"), "b")
    again.close()

    assert [parcel.event.episode_id for parcel in outbox.parcels()] == ["c", "a", "b"]


def test_a_delivered_episode_leaves_its_line_and_one_without_a_dataset_none(outbox: Outbox, tmp_path: Path) -> None:
    for name, dataset in (("e1", "lab/stacking"), ("e2", None), ("e3", "lab/other")):
        parcel, _ = outbox.save(record(outbox, name, dataset=dataset), name)
        outbox.remove(parcel)

    [line] = recorded_episodes(tmp_path, "lab/stacking")
    assert (line.episode_id, line.source, line.task, line.num_frames) == ("e1", "lab", "Stack.", 2)
    assert list(outbox.outbox.iterdir()) == []


def test_the_place_of_the_dataset_is_noted_with_each_episode(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, dataset_uri=lambda name: f"file:///data/{name}")
    parcels = [outbox.save(record(outbox, name, dataset=dataset), name)[0] for name, dataset in (("e1", "lab/a"), ("e2", None))]
    outbox.remove(parcels[0])
    outbox.save(record(outbox, "e3", dataset="lab/b"), "e3")
    outbox.close()

    assert [parcel.dataset_uri for parcel in parcels] == ["file:///data/lab/a", None]
    assert [each.dataset_uri for each in recorded_episodes(tmp_path, "lab/a")] == ["file:///data/lab/a"]
    assert [(each.episode_id, each.dataset_uri) for each in noted_episodes(tmp_path)] == [
        ("e1", "file:///data/lab/a"),
        ("e3", "file:///data/lab/b"),
    ]


def test_what_is_held_back_is_noted_all_the_same(outbox: Outbox, tmp_path: Path) -> None:
    parcel, _ = outbox.save(record(outbox, "e1"), "e1")
    outbox.hold_back(parcel, "the store does not want it")

    assert [each.episode_id for each in noted_episodes(tmp_path)] == ["e1"]


def test_what_waits_counts_as_recorded_and_what_is_held_back_does_not(outbox: Outbox, tmp_path: Path) -> None:
    parcels = [outbox.save(record(outbox, name), name)[0] for name in ("e1", "e2", "e3")]
    outbox.remove(parcels[0])
    outbox.hold_back(parcels[1], "the store does not want it")

    assert [line.episode_id for line in recorded_episodes(tmp_path, "lab/stacking")] == ["e1", "e3"]
    assert (outbox.outbox / "e2" / HELD_BACK_FILE).read_text() == "the store does not want it\n"


def test_a_crash_between_the_line_and_the_removal_counts_the_episode_once(outbox: Outbox, tmp_path: Path) -> None:
    parcel, _ = outbox.save(record(outbox, "e1"), "nonce")
    outbox.remove(parcel)
    outbox.save(record(outbox, "e1"), "nonce")

    assert [line.episode_id for line in recorded_episodes(tmp_path, "lab/stacking")] == ["e1"]


def test_nothing_is_recorded_where_there_is_no_folder(tmp_path: Path) -> None:
    assert recorded_episodes(tmp_path / "none", "lab/stacking") == []


def test_leftovers_are_swept_with_their_length_and_half_removed_episodes_silently(outbox: Outbox) -> None:
    record(outbox, "cut")
    (outbox.recording / "empty").mkdir()
    (outbox.recording / ".DS_Store").touch()  # somebody looked at the folder
    outbox.sync_ahead()
    (outbox.outbox / ".removed-1" / "raw").mkdir(parents=True)

    assert outbox.sweep() == [
        Removed(episode_id="cut", num_frames=2, duration_s=2.5),
        Removed(episode_id="empty", num_frames=0, duration_s=0.0),
    ]
    assert [path.name for path in outbox.recording.iterdir()] == [".DS_Store"]
    assert list(outbox.outbox.iterdir()) == []


def test_what_a_killed_camera_process_had_not_finished_is_no_part_of_the_episode(outbox: Outbox) -> None:
    finished = record(outbox, "e1")
    (finished.folder / "images" / "cam" / ".part-3.jpg").write_bytes(b"half")
    outbox.sync_ahead()
    _, num_bytes = outbox.save(finished, "nonce")

    assert files(outbox.outbox / "e1") == WHOLE
    assert num_bytes == sum((outbox.outbox / "e1" / name).stat().st_size for name in WHOLE)


def test_the_sizes_of_the_images_are_known_of_the_episode_that_was_saved_last(outbox: Outbox) -> None:
    first, second = (outbox.save(record(outbox, name), name)[0] for name in ("e1", "e2"))

    assert outbox.image_sizes(first) is None
    assert outbox.image_sizes(second) == {f"images/cam/{time_us}.jpg": 5 for time_us in TIMES_US}


def test_an_event_file_that_is_damaged_is_named(outbox: Outbox) -> None:
    (outbox.outbox / "e1").mkdir()
    (outbox.outbox / "e1" / "event.json").write_text("{")

    with pytest.raises(Refused, match=r"e1/event\.json is not what a recorder writes"):
        outbox.parcels()


def test_syncing_ahead_looks_only_at_a_recording(outbox: Outbox) -> None:
    outbox.sync_ahead()
    record(outbox, "e1")
    outbox.sync_ahead()

    assert files(outbox.recording) == [f"e1/images/cam/{time_us}.jpg" for time_us in TIMES_US]


def test_a_folder_is_held_once_and_free_afterwards(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(Refused, match=f"in use by another recorder \\(process {os.getpid()}\\)"), held(tmp_path):
        pass

    with held(tmp_path) as lock:
        assert not lock.closed


def test_a_folder_is_held_by_a_child_of_a_dead_recorder_until_it_ends(tmp_path: Path) -> None:
    child = "import sys; print('up', flush=True); sys.stdin.read()"
    with held(tmp_path) as lock:
        command = [sys.executable, "-c", child]
        saver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(lock.fileno(),))
    assert saver.stdin is not None
    assert saver.stdout is not None
    saver.stdout.readline()
    (tmp_path / "lock").write_text("4194304")  # no process has this id: the recorder is dead
    saver.stdin.close()
    with held(tmp_path):
        ended = saver.wait(timeout=10)
    saver.stdout.close()

    assert ended == 0
