"""The journal has one line for each episode, also after a power cut tore one."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.recorder.journal import JOURNAL_FILE, Journal, RecordedEpisode
from shared.errors import Refused


def line(episode_id: str, *, dataset: str = "lab/stacking", saved_at: float = 1.0) -> RecordedEpisode:
    return RecordedEpisode(episode_id=episode_id, source="lab", dataset=dataset, task="Stack.", saved_at=saved_at, num_frames=3)


def path_in(folder: Path) -> Path:
    return folder / "datasets" / "lab%2Fstacking" / JOURNAL_FILE


def test_lines_come_back_in_order_each_dataset_its_own(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for noted in (line("b"), line("a"), line("c", dataset="lab")):
        journal.note(noted)

    assert Journal(tmp_path).episodes("lab/stacking") == [line("b"), line("a")]
    assert journal.episodes("lab") == [line("c", dataset="lab")]
    assert journal.episodes("other") == []


def test_an_episode_that_is_noted_again_has_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note(line("a"))
    journal.note(line("a"))

    assert path_in(tmp_path).read_bytes().count(b"\n") == 1


def test_a_torn_line_takes_no_other_one_with_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note(line("a"))
    with path_in(tmp_path).open("ab") as file:
        file.write(b'{"episode_id": "torn", "sour')
    journal.note(line("b"))

    assert journal.episodes("lab/stacking") == [line("a"), line("b")]


def test_a_name_that_is_recorded_anew_counts_once_with_its_last_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note(line("a", saved_at=1.0))
    journal.note(line("a", saved_at=2.0))

    assert journal.episodes("lab/stacking") == [line("a", saved_at=2.0)]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "datasets").touch()

    with pytest.raises(Refused, match="lab%2Fstacking"):
        Journal(tmp_path / "datasets").note(line("a"))


def test_the_names_of_the_datasets_come_back_as_they_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    nothing = journal.datasets()
    for dataset in ("lab/stacking", "lab/a b"):
        journal.note(line("a", dataset=dataset))

    assert (nothing, journal.datasets()) == ([], ["lab/a b", "lab/stacking"])


def test_a_line_of_an_older_recorder_says_no_place(tmp_path: Path) -> None:
    path_in(tmp_path).parent.mkdir(parents=True)
    path_in(tmp_path).write_text(
        '{"episode_id": "a", "source": "lab", "dataset": "lab/stacking", "task": "Stack.", "saved_at": 1.0, "num_frames": 3}\n'
    )

    assert Journal(tmp_path).episodes("lab/stacking") == [line("a")]
