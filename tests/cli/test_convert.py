"""`convert` as a person runs it: a real process, its exit status, its output, and what lies in the folder afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.lerobot.check import check_dataset
from tests.services.converter.episodes import STRATEGY, jpeg, write_episode

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60.0


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three short episodes in the bucket layout, and a strategy file beside them."""
    for name in ("ep_1", "ep_2", "ep_3"):
        write_episode(tmp_path / "raw", name, seconds=0.4)
    write_strategy(tmp_path)
    return tmp_path / "raw"


def write_strategy(folder: Path, **sections: Any) -> Path:
    document = {**STRATEGY, "input": {"data_path": str(folder / "raw")}, "output": {"base_path": str(folder / "dataset")}, **sections}
    (folder / "strategy.yaml").write_bytes(msgspec.yaml.encode(document))
    return folder / "strategy.yaml"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from cli.main import main; main()", "convert", "-c", str(folder / "strategy.yaml"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    with start(folder, *arguments) as process:
        output, error = process.communicate(timeout=DEADLINE_S)
    return subprocess.CompletedProcess(arguments, process.returncode, output, error)


def episode_ids(dataset: Path) -> list[str]:
    return [json.loads(line)["episode_id"] for line in (dataset / "meta/episodeflow/episodes.jsonl").read_text().splitlines()]


def contents(dataset: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dataset)): path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_episode_goes_into_one_dataset_and_the_table_says_so(raw: Path) -> None:
    done = run(raw.parent)

    assert (done.returncode, done.stderr) == (0, "")
    assert episode_ids(raw.parent / "dataset") == ["ep_1", "ep_2", "ep_3"]
    assert check_dataset(raw.parent / "dataset").problems == ()
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:4] == ["episode", "rows", "dropped", "seconds"]
    assert lines[1][:4] == ["ep_1", "9", "0", "0.36"]
    assert lines[3][-2:] == ["episode", "2"]
    assert lines[-1] == ["dataset:", str(raw.parent / "dataset")]
    assert "\x1b" not in done.stdout
    assert names_in(raw.parent) == ["dataset", "raw", "strategy.yaml"]


def test_one_failing_episode_costs_only_itself(raw: Path) -> None:
    (raw / "ep_2/joints/left_slave.parquet").write_bytes(b"")
    done = run(raw.parent)

    assert (done.returncode, done.stderr) == (1, "")
    assert episode_ids(raw.parent / "dataset") == ["ep_1", "ep_3"]
    assert check_dataset(raw.parent / "dataset").problems == ()
    assert "failed: joints/left_slave.parquet: is no whole parquet file (0 bytes)" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == "1 of 3 episodes failed"
    assert names_in(raw.parent) == ["dataset", "raw", "strategy.yaml"]


def test_where_every_episode_fails_there_is_no_dataset(raw: Path) -> None:
    for path in raw.glob("*/joints/left_slave.parquet"):
        path.unlink()
    done = run(raw.parent)

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "3 of 3 episodes failed"
    assert "dataset:" not in done.stdout
    assert names_in(raw.parent) == ["raw", "strategy.yaml"]


def test_one_and_four_workers_make_the_same_dataset_in_every_byte(raw: Path) -> None:
    one = run(raw.parent, "--max-workers", "1", "--output", str(raw.parent / "one"))
    four = run(raw.parent, "--max-workers", "4", "--output", str(raw.parent / "four"))

    assert (one.returncode, four.returncode) == (0, 0)
    assert contents(raw.parent / "one") == contents(raw.parent / "four")


def test_named_episodes_only_under_another_strategy_input_and_output(raw: Path, tmp_path: Path) -> None:
    moved = raw.rename(raw.parent / "elsewhere")
    done = run(tmp_path, "-e", "ep_3", "-e", "ep_1", "--strategy", "chunking", "--input", str(moved), "--output", str(tmp_path / "a/b"))

    assert (done.returncode, done.stderr) == (0, "")
    assert episode_ids(tmp_path / "a/b") == ["ep_1", "ep_3"]
    assert json.loads((tmp_path / "a/b/meta/info.json").read_text())["features"]["action"]["shape"] == [10, 6]


def test_an_unknown_episode_is_refused_with_those_that_are_there(raw: Path) -> None:
    done = run(raw.parent, "-e", "ep_9")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {raw}: holds no episode ep_9 (found ep_1, ep_2, ep_3)\n"
    assert names_in(raw.parent) == ["raw", "strategy.yaml"]


def test_a_second_run_converts_nothing_and_changes_nothing(raw: Path) -> None:
    run(raw.parent)
    before = contents(raw.parent / "dataset")
    again = run(raw.parent)

    assert again.returncode == 0
    assert again.stdout.count("already in the dataset") == 3
    assert contents(raw.parent / "dataset") == before


def test_a_later_run_adds_what_is_new(raw: Path) -> None:
    run(raw.parent, "-e", "ep_1", "-e", "ep_3")
    done = run(raw.parent)

    assert done.returncode == 0
    assert episode_ids(raw.parent / "dataset") == ["ep_1", "ep_3", "ep_2"]
    assert check_dataset(raw.parent / "dataset").problems == ()


def test_overwrite_starts_the_dataset_anew(raw: Path) -> None:
    run(raw.parent)
    done = run(raw.parent, "-e", "ep_2", "--overwrite")

    assert done.returncode == 0
    assert episode_ids(raw.parent / "dataset") == ["ep_2"]


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_a_folder_that_is_no_dataset_is_refused_and_kept(raw: Path, option: tuple[str, ...]) -> None:
    (raw.parent / "dataset").mkdir()
    (raw.parent / "dataset/thesis.txt").write_text("mine")
    done = run(raw.parent, *option)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: {raw.parent}/dataset: is no LeRobot dataset (no meta/info.json), expected one or an empty folder; "
        "choose another --output, or remove it\n"
    )
    assert (raw.parent / "dataset/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_an_output_that_is_a_file_is_refused_and_kept(raw: Path, option: tuple[str, ...]) -> None:
    (raw.parent / "dataset").write_text("mine")
    done = run(raw.parent, *option)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {raw.parent}/dataset: is a file, expected the folder of a dataset; choose another --output\n"
    assert (raw.parent / "dataset").read_text() == "mine"


def test_a_dataset_made_by_other_settings_is_refused_and_kept(raw: Path) -> None:
    run(raw.parent, "-e", "ep_1")
    before = contents(raw.parent / "dataset")
    done = run(raw.parent, "-e", "ep_2", "--strategy", "chunking")

    assert done.returncode == 1
    assert "failed: Feature mismatch: existing dataset has action with" in done.stdout
    assert contents(raw.parent / "dataset") == before


def test_another_run_on_the_same_dataset_is_refused(raw: Path) -> None:
    import fcntl

    folder = raw.parent / ".dataset.episodeflow"
    folder.mkdir()
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(raw.parent)

    assert done.returncode == 1
    assert done.stderr == (
        f"error: {raw.parent}/dataset: another convert is writing to this dataset; wait for it, or choose another --output\n"
    )


def test_a_missing_input_and_a_wrong_key_are_one_sentence(raw: Path) -> None:
    write_strategy(raw.parent, input={})
    unset = run(raw.parent)
    write_strategy(raw.parent, video={"crff": 3})
    unknown = run(raw.parent)

    place = raw.parent / "strategy.yaml"
    assert unset.stderr == f"error: {place}: input.data_path: is not set: set it, or give --input\n"
    assert unknown.stderr == f"error: {place}: video.crff: unknown key; docs/configuration.md lists the keys\n"
    assert (unset.returncode, unknown.returncode) == (1, 1)


def test_an_interrupted_run_leaves_no_folder_and_the_next_completes(raw: Path) -> None:
    image = jpeg(1, width=640, height=480)
    for path in raw.glob("*/images/*/*.jpg"):
        path.write_bytes(image)
    write_strategy(raw.parent, video={"preset": "slower"})
    with start(raw.parent, "--max-workers", "1") as process:
        deadline = time.monotonic() + DEADLINE_S
        while not any((raw.parent / ".dataset.episodeflow/parts").glob("ep_3/videos/*/*/*.mp4")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 1
    assert "Traceback" not in error
    assert names_in(raw.parent) in (["dataset", "raw", "strategy.yaml"], ["raw", "strategy.yaml"])
    assert run(raw.parent).returncode == 0
    assert sorted(episode_ids(raw.parent / "dataset")) == ["ep_1", "ep_2", "ep_3"]
    assert check_dataset(raw.parent / "dataset").problems == ()


def test_a_killed_run_leaves_a_dataset_that_the_next_completes(raw: Path) -> None:
    write_strategy(raw.parent, video={"preset": "veryslow"})
    with start(raw.parent, "--max-workers", "1") as process:
        deadline = time.monotonic() + DEADLINE_S
        while not (raw.parent / "dataset").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    done = run(raw.parent)

    assert done.returncode == 0
    assert sorted(episode_ids(raw.parent / "dataset")) == ["ep_1", "ep_2", "ep_3"]
    assert names_in(raw.parent) == ["dataset", "raw", "strategy.yaml"]


def test_the_strategy_files_of_the_repository_load_and_only_lack_an_input(tmp_path: Path) -> None:
    for name in ("nearest", "chunking", "window"):
        (tmp_path / "strategy.yaml").write_bytes((REPOSITORY / f"config/strategies/{name}.yaml").read_bytes())
        done = run(tmp_path)

        assert done.returncode == 1
        assert done.stderr == "error: raw_datas: is no folder, expected raw episodes; set input.data_path or give --input\n"
