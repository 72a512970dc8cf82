"""Each way a dataset can be wrong is found and named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shared.lerobot import layout
from shared.lerobot.check import check_dataset
from shared.lerobot.commit import commit
from tests.shared.lerobot.parts import images, make_part, write_video

CAMERA = "observation.images.front"
DATA = layout.data_path(1)
VIDEO = layout.video_path(CAMERA, 1)

Damage = Callable[[Path], None]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for seed, task in enumerate(["pick", "place"]):
        make_part(tmp_path / str(seed), seed=seed, task=task)
        commit(tmp_path / str(seed), tmp_path / "dataset")
        for path in (tmp_path / "dataset").rglob("*.mp4"):
            copy = path.read_bytes()
            path.unlink()
            path.write_bytes(copy)
    return tmp_path / "dataset"


def info(change: Callable[[dict], object]) -> Damage:
    def damage(root: Path) -> None:
        document = json.loads((root / layout.INFO_PATH).read_text())
        change(document)
        (root / layout.INFO_PATH).write_text(json.dumps(document))

    return damage


def line(path: str, change: Callable[[dict], object], number: int = 1) -> Damage:
    def damage(root: Path) -> None:
        documents = [json.loads(each) for each in (root / path).read_text().splitlines()]
        change(documents[number])
        (root / path).write_text("".join(json.dumps(each) + "\n" for each in documents))

    return damage


def table(change: Callable[[pa.Table], pa.Table]) -> Damage:
    return lambda root: pq.write_table(change(pq.ParquetFile(root / DATA).read()), root / DATA)


def column(name: str, values: np.ndarray) -> Damage:
    return table(lambda found: found.set_column(found.column_names.index(name), name, pa.array(values)))


def file(path: str, content: bytes = b"") -> Damage:
    def damage(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return damage


def appended(path: str, content: bytes) -> Damage:
    return lambda root: file(path, (root / path).read_bytes() + content)(root)


def statistics(feature: str, name: str, value: object) -> Damage:
    return line(layout.STATS_PATH, lambda document: document["stats"][feature].update({name: value}))


def feature(name: str, **changes: object) -> Damage:
    return info(lambda document: document["features"][name].update(changes))


DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "info missing": (lambda root: (root / layout.INFO_PATH).unlink(), layout.INFO_PATH, "cannot be read"),
    "version": (info(lambda document: document.update(codebase_version="v2.0")), layout.INFO_PATH, "expected v2.1"),
    "key missing": (info(lambda document: document.pop("total_chunks")), layout.INFO_PATH, "missing required field `total_chunks`"),
    "episodes": (info(lambda document: document.update(total_episodes=1)), layout.INFO_PATH, "total_episodes is 1, expected 2"),
    "frames": (info(lambda document: document.update(total_frames=15)), layout.INFO_PATH, "total_frames is 15, the tables have 16 rows"),
    "tasks": (info(lambda document: document.update(total_tasks=3)), layout.INFO_PATH, "total_tasks is 3, expected 2"),
    "videos": (info(lambda document: document.update(total_videos=3)), layout.INFO_PATH, "total_videos is 3, expected 2"),
    "chunks": (info(lambda document: document.update(total_chunks=0)), layout.INFO_PATH, "total_chunks is 0, expected 1"),
    "splits": (info(lambda document: document.update(splits={})), layout.INFO_PATH, "splits.train is None, expected 0:2"),
    "fps no int": (info(lambda document: document.update(fps=30.0)), layout.INFO_PATH, r"Expected `int`, got `float` - at `\$\.fps`"),
    "robot type": (info(lambda document: document.pop("robot_type")), layout.INFO_PATH, "robot_type is missing"),
    "video path": (info(lambda document: document.update(video_path=None)), layout.INFO_PATH, "video_path is null"),
    "default column": (feature("index", dtype="int32"), layout.INFO_PATH, r"feature index is int32 \[1\], expected int64 \[1\]"),
    "names": (feature("action", names=["a"]), layout.INFO_PATH, "feature action has 1 names for 3 elements"),
    "camera names": (feature(CAMERA, names=None), layout.INFO_PATH, "LeRobot cannot train on it"),
    "camera shape": (feature(CAMERA, shape=[48, 64, 1]), layout.INFO_PATH, r"has shape \[48, 64, 1\]"),
    "image no camera": (
        info(lambda document: document["features"].update(image_gain={"dtype": "float32", "shape": [1], "names": None})),
        layout.INFO_PATH,
        "feature image_gain is no camera",
    ),
    "blank line": (appended(layout.EPISODES_PATH, b"\n"), layout.EPISODES_PATH, "line 3: is blank"),
    "hole": (
        line(layout.EPISODES_PATH, lambda document: document.update(episode_index=2)),
        layout.EPISODES_PATH,
        "line 2 has index 2, expected 1",
    ),
    "length": (line(layout.EPISODES_PATH, lambda document: document.update(length=9)), DATA, "has 8 rows, meta/episodes.jsonl says 9"),
    "episode tasks": (
        line(layout.EPISODES_PATH, lambda document: document.update(tasks=["fly"])),
        layout.EPISODES_PATH,
        r"has tasks \['fly'\]",
    ),
    "other task": (
        line(layout.EPISODES_PATH, lambda document: document.update(tasks=["pick"])),
        DATA,
        r"the rows have the tasks \['place'\]",
    ),
    "task twice": (
        line(layout.TASKS_PATH, lambda document: document.update(task="pick")),
        layout.TASKS_PATH,
        "task 'pick' is there 2 times",
    ),
    "task hole": (line(layout.TASKS_PATH, lambda document: document.update(task_index=5)), DATA, "task_index 1 is not in meta/tasks.jsonl"),
    "data missing": (lambda root: (root / DATA).unlink(), DATA, "is missing"),
    "video missing": (lambda root: (root / VIDEO).unlink(), VIDEO, "is missing"),
    "stray table": (file("data/chunk-000/episode_000002.parquet"), "data/chunk-000/episode_000002.parquet", "is not a file of any episode"),
    "stray temporary": (file("data/chunk-000/x.tmp"), "data/chunk-000/x.tmp", "is not a file of any episode"),
    "stray movie": (file("old/camera.mp4"), "old/camera.mp4", "LeRobot reads or counts it"),
    "images": (file("images/left/frame.png"), "images/left/frame.png", "temporary image"),
    "staged": (file(".episodeflow/staging/000.staged"), ".episodeflow/staging/000.staged", "an interrupted commit left it"),
    "journal": (file(".episodeflow/journal.json"), ".episodeflow/journal.json", "an interrupted commit left it"),
    "no parquet": (file(DATA, b"PAR1"), DATA, "is not a readable parquet file"),
    "frame_index": (column("frame_index", np.arange(1, 9)), DATA, "column frame_index is 1 at row 0, expected 0"),
    "episode_index": (column("episode_index", np.zeros(8, int)), DATA, "column episode_index is 0 at row 0, expected 1"),
    "index": (column("index", np.arange(8)), DATA, "column index is 0 at row 0, expected 8"),
    "timestamps": (column("timestamp", np.arange(8, dtype=np.float32) / 25), DATA, "timestamp steps from 0 to 0.04 s at row 0"),
    "type": (column("timestamp", np.arange(8) / 30), DATA, "column timestamp is float64, info.json says float32"),
    "task_index": (column("task_index", np.full(8, 7)), DATA, "task_index 7 is not in"),
    "nan": (column("action", np.full(8, np.nan, np.float32)), DATA, "column action is not finite at row 0"),
    "no column": (table(lambda found: found.drop_columns(["action"])), DATA, "column action of info.json is missing"),
    "more columns": (table(lambda found: found.append_column("more", found["index"])), DATA, "column more is not in info.json"),
    "rows": (table(lambda found: found.slice(0, 7)), DATA, "has 7 rows, meta/episodes.jsonl says 8"),
    "no stats": (line(layout.STATS_PATH, lambda document: document["stats"].pop("action")), layout.STATS_PATH, "of action are missing"),
    "no stats line": (
        lambda root: file(layout.STATS_PATH, (root / layout.STATS_PATH).read_bytes().split(b"\n")[0])(root),
        layout.STATS_PATH,
        "has 1 lines",
    ),
    "stats value": (statistics("action", "mean", [9, 9, 9]), layout.STATS_PATH, r"say mean = \[9, 9, 9\], the column has"),
    "stats shape": (statistics("action", "std", [[1, 2, 3]]), layout.STATS_PATH, "std of another shape than the column"),
    "stats count": (statistics("index", "count", [7]), layout.STATS_PATH, r"count = \[7\]"),
    "image shape": (statistics(CAMERA, "max", [1, 1, 1]), layout.STATS_PATH, r"not of shape \(3, 1, 1\)"),
    "image range": (statistics(CAMERA, "max", [[[255]], [[1]], [[1]]]), layout.STATS_PATH, "max outside 0 to 1"),
    "image count": (statistics(CAMERA, "count", [1]), layout.STATS_PATH, r"have count \[1\], expected \[8\]"),
    "no video": (file(VIDEO, b"nothing"), VIDEO, "does not decode as a video"),
    "short video": (lambda root: write_video(root / VIDEO, images(7)), VIDEO, "has 7 frames, the episode has 8 rows"),
    "slow video": (lambda root: write_video(root / VIDEO, images(8), fps=25), VIDEO, "runs at 25 fps, info.json says 30"),
    "other codec": (lambda root: write_video(root / VIDEO, images(8), codec="libsvtav1"), VIDEO, "is av1, info.json says h264"),
    "small video": (lambda root: write_video(root / VIDEO, [image[:32] for image in images(8)]), VIDEO, "is 64x32, info.json says 64x48"),
    "provenance": (
        line(layout.PROVENANCE_PATH, lambda document: document.update(episode_index=7)),
        layout.PROVENANCE_PATH,
        r"has the episodes \[0, 7\]",
    ),
    "in twice": (
        line(layout.PROVENANCE_PATH, lambda document: document.update(episode_id="ep0")),
        layout.PROVENANCE_PATH,
        "ep0 of lab .* is in 2 times",
    ),
    "no manifest": (
        lambda root: (root / layout.manifest_path(1)).unlink(),
        layout.manifest_path(1),
        "is missing, but the episode is in the index",
    ),
}


@pytest.mark.parametrize("quick", [False, True])
def test_a_sound_dataset_has_no_problems(dataset: Path, quick: bool) -> None:
    report = check_dataset(dataset, quick=quick)

    assert report.problems == ()
    assert (report.episodes, report.frames, report.videos, report.tasks) == (2, 16, 2, 2)


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_named(dataset: Path, name: str) -> None:
    damage, path, sentence = DAMAGES[name]
    damage(dataset)

    problems = check_dataset(dataset, quick=True).problems

    assert [problem for problem in problems if problem.path == path and re.search(sentence, problem.problem)], problems


def test_a_check_changes_nothing(dataset: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}

    check_dataset(dataset)

    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before
