"""Where episodes of this host belong that may still be on their way."""

from __future__ import annotations

from pathlib import Path

from cli.pending import pending_folders, wanted_folder
from services.recorder.journal import Journal, RecordedEpisode
from shared.lerobot.commit import commit
from tests.services.recorder.arrangements import options
from tests.shared.lerobot.parts import make_part


def note(state: Path, episode_id: str, dataset: str, uri: str | None, *, robot: str = "white") -> None:
    episode = RecordedEpisode(
        episode_id=episode_id, source="robot", dataset=dataset, task="Stack.", saved_at=1e9, num_frames=8, dataset_uri=uri
    )
    Journal(state / "recorder" / robot).note(episode)


async def test_folders_are_those_of_datasets_that_an_episode_is_not_in(tmp_path: Path) -> None:
    make_part(tmp_path / "part", source="robot", episode_id="in")
    commit(tmp_path / "part", tmp_path / "full")
    note(tmp_path, "in", "lab/full", (tmp_path / "full").as_uri())
    note(tmp_path, "a", "lab/open", (tmp_path / "open").as_uri(), robot="black")
    note(tmp_path, "b", "lab/older", None)
    note(tmp_path, "c", "lab/bucket", "s3://lab/datasets/lab/bucket")

    assert await pending_folders(tmp_path) == {"lab/open": tmp_path / "open"}


async def test_a_host_that_never_recorded_has_none(tmp_path: Path) -> None:
    assert await pending_folders(tmp_path / "nothing") == {}


def test_a_dataset_lies_in_its_own_folder_or_where_lerobot_keeps_it(tmp_path: Path) -> None:
    environ = {"HF_LEROBOT_HOME": str(tmp_path)}

    assert wanted_folder(options(dataset__root="/data/blocks").dataset, environ) == Path("/data/blocks")
    assert wanted_folder(options().dataset, environ) == tmp_path / "lab" / "blocks"
