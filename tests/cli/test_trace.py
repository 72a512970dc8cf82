"""`episodeflow trace` and `episodeflow check --provenance` on a converted episode."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import commands
from services.converter.assignment import Assignment
from services.converter.convert import convert
from shared.lerobot import layout
from shared.lerobot.commit import commit
from tests.services.converter.episodes import raw_episode, strategy, write_episode


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    folder = write_episode(root / "raw", "ep_1", seconds=0.4, task="stack [all] cubes")
    convert(Assignment(source="lab", episode_id="ep_1", raw=raw_episode(folder), config=strategy(), folder=root / "part"))
    commit(root / "part", root / "dataset")
    return root


@pytest.fixture
def lab(made: Path, tmp_path: Path) -> Path:
    for name in ("raw", "dataset"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def run(*arguments: str | Path, columns: int = 100) -> Result:
    result = CliRunner(env={"COLUMNS": str(columns)}).invoke(commands, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize("columns", [80, 100])
@pytest.mark.parametrize("episode", ["0", "ep_1"])
def test_trace_shows_raw_files_recipe_software_alignment_and_videos(made: Path, episode: str, columns: int) -> None:
    shown = run("trace", made / "dataset", episode, columns=columns).stdout

    assert max(map(len, shown.splitlines())) <= columns
    manifest = json.loads((made / "dataset" / layout.manifest_path(0)).read_text())
    flat = re.sub(r"\s", "", shown)
    expected = (
        "episode0:ep_1oflab",
        manifest["digest"],
        "stack[all]cubes",
        "left_master",
        "images/cam_base",
        "opencv",
        "cam_side(downsample)",
    )
    assert [word for word in expected if word not in flat] == []


def test_trace_lists_every_raw_file_with_its_hash(made: Path) -> None:
    shown = run("trace", made / "dataset", "0", "--files", columns=200).stdout

    raw = json.loads((made / "dataset" / layout.manifest_path(0)).read_text())["raw"]
    assert all(f"{kind}/{name}" in shown and digest in shown for kind, digests in raw.items() for name, digest in digests.items())
    assert "joints/metadata.json" in shown


def test_trace_prints_the_manifest_as_json(made: Path) -> None:
    assert json.loads(run("trace", made / "dataset", "0", "--json").stdout)["episode_id"] == "ep_1"


def test_trace_of_an_episode_that_is_not_there_names_those_that_are(made: Path) -> None:
    with pytest.raises(Exception, match=r"has no episode '7' with a manifest \(it has 1: 0 \(ep_1\)\)"):
        run("trace", made / "dataset", "7")


def test_trace_of_what_is_no_dataset_says_so(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="it is no dataset, or was not made by episodeflow"):
        run("trace", tmp_path, "0")


def test_check_with_provenance_of_an_untouched_dataset_is_sound(lab: Path) -> None:
    result = run("check", lab / "dataset", "--provenance", "--raw", lab / "raw")

    assert (result.exit_code, "sound" in result.stdout, "files hashed for 1 manifests" in result.stdout) == (0, True, True)


def test_check_finds_raw_episodes_in_a_folder_of_their_source(lab: Path) -> None:
    (lab / "all").mkdir()
    (lab / "raw").rename(lab / "all" / "lab")

    assert run("check", lab / "dataset", "--provenance", "--raw", lab / "all").exit_code == 0


def test_check_with_provenance_names_a_changed_raw_file_with_exit_status_1(lab: Path) -> None:
    with (lab / "raw/ep_1/joints/left_slave.parquet").open("r+b") as file:
        file.seek(100)
        file.write(b"\x00\x01\x02")

    result = run("check", lab / "dataset", "--provenance", "--raw", lab / "raw")

    assert (result.exit_code, result.stdout.startswith("ep_1/joints/left_slave.parquet: is not the raw file")) == (1, True)


def test_check_refuses_a_raw_folder_without_episodes(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(Exception, match="holds no raw episode"):
        run("check", lab / "dataset", "--provenance", "--raw", tmp_path / "empty")


def test_raw_without_provenance_is_refused(lab: Path) -> None:
    assert run("check", lab / "dataset", "--raw", lab / "raw").exit_code == 2
