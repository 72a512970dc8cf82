"""Checking a dataset: everything the real LeRobot would trip over, and what it does not notice.

Reads, never changes. A problem is a sentence about one file; a check that cannot go on reports why and lets the
other checks run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from shared.errors import BadDataset
from shared.lerobot import layout, rows
from shared.lerobot.info import Info, default_features, read_info
from shared.lerobot.movies import movie_problems, read_movie
from shared.lerobot.part import episode_stats
from shared.lerobot.records import EpisodeLine, FeatureStats, ProvenanceLine, Record, StatsLine, TaskLine, decoded_json, read_lines
from shared.lerobot.stats import IMAGE_STATS_SHAPE, sample_indices
from shared.lerobot.tables import read_columns

L = TypeVar("L", bound=Record)


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one file (path below the dataset)."""

    path: str
    problem: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a check; a dataset without problems loads in LeRobot and can be trained on.

    Attributes:
        problems: in a fixed order; empty for a sound dataset.
        episodes: of info.json.
        frames: rows found in the tables.
        videos: video files read.
        tasks: of tasks.jsonl.
    """

    problems: tuple[Problem, ...]
    episodes: int
    frames: int
    videos: int
    tasks: int


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    info: Info
    episodes: Sequence[EpisodeLine]
    tasks: Sequence[TaskLine]
    stats: Sequence[StatsLine]
    stats_by_index: Mapping[int, StatsLine]


def check_dataset(root: Path, *, quick: bool = False) -> Report:
    """Return what is wrong with the dataset at ``root``.

    Args:
        root: folder of a LeRobot v2.1 dataset.
        quick: read the times in the videos' packets instead of decoding every frame.
    """
    problems: list[Problem] = []
    metadata = _read_metadata(root, problems)
    if metadata is None:
        return Report(problems=tuple(problems), episodes=0, frames=0, videos=0, tasks=0)
    problems += _info_problems(root, metadata)
    problems += _line_problems(metadata)
    problems += _file_problems(root, metadata.info)
    num_frames, num_videos = 0, 0
    for episode in metadata.episodes:
        length = _check_table(root, metadata, episode, first_index=num_frames, problems=problems)
        num_frames += length
        num_videos += _check_videos(root, metadata.info, episode, quick=quick, problems=problems)
    if num_frames != metadata.info.total_frames:
        problems.append(Problem(layout.INFO_PATH, f"total_frames is {metadata.info.total_frames}, the tables have {num_frames} rows"))
    problems += _provenance_problems(root, metadata.info)
    return Report(
        problems=tuple(problems), episodes=metadata.info.total_episodes, frames=num_frames, videos=num_videos, tasks=len(metadata.tasks)
    )


def _read_metadata(root: Path, problems: list[Problem]) -> _Metadata | None:
    try:
        info = read_info(root)
    except BadDataset as error:
        problems.append(Problem(layout.INFO_PATH, str(error)))
        return None
    stats = _lines(root, layout.STATS_PATH, StatsLine, problems)
    return _Metadata(
        info=info,
        episodes=_lines(root, layout.EPISODES_PATH, EpisodeLine, problems),
        tasks=_lines(root, layout.TASKS_PATH, TaskLine, problems),
        stats=stats,
        stats_by_index={line.episode_index: line for line in stats},
    )


def _lines(root: Path, path: str, record_type: type[L], problems: list[Problem]) -> list[L]:
    try:
        return read_lines(root / path, record_type)
    except BadDataset as error:
        problems.append(Problem(path, str(error)))
        return []


def _info_problems(root: Path, metadata: _Metadata) -> Iterator[Problem]:
    info = metadata.info
    document = decoded_json((root / layout.INFO_PATH).read_bytes(), layout.INFO_PATH)
    expected = {
        "total_episodes": len(metadata.episodes),
        "total_tasks": len(metadata.tasks),
        "total_videos": info.total_episodes * len(info.video_keys),
        "total_chunks": layout.num_chunks(info.total_episodes, info.chunks_size),
    }
    for key, value in expected.items():
        if getattr(info, key) != value:
            yield Problem(layout.INFO_PATH, f"{key} is {getattr(info, key)}, expected {value}")
    if "robot_type" not in document:
        yield Problem(layout.INFO_PATH, "robot_type is missing: LeRobot cannot resume the dataset; write null if it is unknown")
    if info.video_keys and info.video_path is None:
        yield Problem(layout.INFO_PATH, f"video_path is null, but {', '.join(info.video_keys)} are videos")
    if info.splits.get("train") != f"0:{info.total_episodes}":
        yield Problem(layout.INFO_PATH, f"splits.train is {info.splits.get('train')}, expected 0:{info.total_episodes}")
    for problem in _feature_problems(info):
        yield Problem(layout.INFO_PATH, problem)


def _feature_problems(info: Info) -> Iterator[str]:
    for key, default in default_features().items():
        found = info.features.get(key)
        if found is None or (found.dtype, found.shape) != (default.dtype, default.shape):
            yield f"feature {key} is {_described(info, key)}, expected {default.dtype} [1]"
    for key, feature in info.features.items():
        if "/" in key:
            yield f"feature {key} has a '/' in its name, which LeRobot forbids"
        if feature.is_video:
            yield from _camera_problems(info, key)
            continue
        if "image" in key:
            yield f"feature {key} is no camera, but LeRobot takes every name with 'image' in it for one and cannot load the dataset"
        if isinstance(feature.names, list) and len(feature.shape) == 1 and len(feature.names) != feature.shape[0]:
            yield f"feature {key} has {len(feature.names)} names for {feature.shape[0]} elements"


def _described(info: Info, key: str) -> str:
    feature = info.features.get(key)
    return "missing" if feature is None else f"{feature.dtype} {list(feature.shape)}"


def _camera_problems(info: Info, key: str) -> Iterator[str]:
    feature = info.features[key]
    if len(feature.shape) != 3 or feature.shape[2] != 3:
        yield f"camera {key} has shape {list(feature.shape)}, expected [height, width, 3]"
    if not isinstance(feature.names, list) or len(feature.names) != 3 or feature.names[2] not in {"channels", "channel"}:
        yield f"camera {key} has names {feature.names}, expected {list(layout.CAMERA_AXES)}: LeRobot cannot train on it"
    video_fps = feature.video_info("video.fps")
    if video_fps is not None and video_fps != info.fps:
        yield f"camera {key} has video.fps {video_fps}, the dataset has {info.fps}"


def _line_problems(metadata: _Metadata) -> Iterator[Problem]:
    counts = Counter(task.task for task in metadata.tasks)
    for path, indices in (
        (layout.EPISODES_PATH, [line.episode_index for line in metadata.episodes]),
        (layout.STATS_PATH, [line.episode_index for line in metadata.stats]),
        (layout.TASKS_PATH, [line.task_index for line in metadata.tasks]),
    ):
        wrong = next((number for number, index in enumerate(indices) if index != number), None)
        if wrong is not None:
            yield Problem(path, f"line {wrong + 1} has index {indices[wrong]}, expected {wrong}: the numbers run from 0 without a hole")
    if len(metadata.stats) != len(metadata.episodes):
        yield Problem(layout.STATS_PATH, f"has {len(metadata.stats)} lines, {layout.EPISODES_PATH} has {len(metadata.episodes)}")
    for text, count in sorted(counts.items()):
        if count > 1:
            yield Problem(layout.TASKS_PATH, f"task {text!r} is there {count} times, expected once")
    for line in metadata.episodes:
        unknown = [text for text in line.tasks if text not in counts]
        if unknown or not line.tasks:
            yield Problem(
                layout.EPISODES_PATH, f"episode {line.episode_index} has tasks {line.tasks}, expected texts of {layout.TASKS_PATH}"
            )


def _file_problems(root: Path, info: Info) -> Iterator[Problem]:
    """Compare the files below data/ and videos/ with those info.json names, and find what a writer left behind."""
    episodes = range(info.total_episodes)
    expected = {info.data_file(index) for index in episodes} | {
        info.video_file(key, index) for key in info.video_keys for index in episodes
    }
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    for path in sorted(expected - found):
        yield Problem(path, "is missing")
    for path in sorted(found - expected):
        if path.startswith(f"{layout.STATE_FOLDER}/"):
            if path != f"{layout.STATE_FOLDER}/lock":
                yield Problem(path, "an interrupted commit left it: the next commit or a recovery finishes or removes it")
        elif path.startswith(("data/", "videos/")) or path.endswith((".parquet", ".mp4")):
            yield Problem(path, "is not a file of any episode: LeRobot reads or counts it; remove it")
        elif path.startswith("images/"):
            yield Problem(path, "is a temporary image of LeRobot's recorder; remove the images folder")


def _check_table(root: Path, metadata: _Metadata, episode: EpisodeLine, *, first_index: int, problems: list[Problem]) -> int:
    """Check one episode's table and statistics; return its number of rows."""
    info = metadata.info
    path = info.data_file(episode.episode_index)
    if not (root / path).is_file():
        return episode.length
    try:
        columns = read_columns(root / path)
    except BadDataset as error:
        problems.append(Problem(path, str(error)))
        return episode.length
    found = rows.row_problems(columns, features=info.columns, fps=info.fps, episode_index=episode.episode_index, first_index=first_index)
    length = len(next(iter(columns.values()), ()))
    if length != episode.length:
        found.append(f"has {length} rows, {layout.EPISODES_PATH} says {episode.length}")
    problems += [Problem(path, problem) for problem in found + _task_problems(columns, metadata, episode)]
    problems += [Problem(layout.STATS_PATH, problem) for problem in _stats_problems(columns, metadata, episode)]
    return length


def _task_problems(columns: rows.Columns, metadata: _Metadata, episode: EpisodeLine) -> list[str]:
    if "task_index" not in columns:
        return []
    text_by_index = {task.task_index: task.task for task in metadata.tasks}
    used = np.unique(columns["task_index"]).tolist()
    unknown = [index for index in used if index not in text_by_index]
    if unknown:
        return [f"task_index {unknown[0]} is not in {layout.TASKS_PATH}"]
    if {text_by_index[index] for index in used} != set(episode.tasks):
        return [f"the rows have the tasks {[text_by_index[index] for index in used]}, {layout.EPISODES_PATH} says {episode.tasks}"]
    return []


def _stats_problems(columns: rows.Columns, metadata: _Metadata, episode: EpisodeLine) -> Iterator[str]:
    line = metadata.stats_by_index.get(episode.episode_index)
    if line is None:
        yield f"episode {episode.episode_index} has no line"
        return
    numeric = {key: values for key, values in columns.items() if len(values) and values.dtype.kind in "biuf"}
    actual = episode_stats(numeric, fps=metadata.info.fps) if "timestamp" in numeric else {}
    for key, feature in metadata.info.features.items():
        if feature.dtype == "string":
            continue
        place = f"episode {episode.episode_index}: statistics of {key}"
        if key not in line.stats:
            yield f"{place} are missing: it would not be normalised in training"
        elif feature.is_video:
            yield from (f"{place} {problem}" for problem in _image_stats_problems(line.stats[key], episode.length))
        elif key in actual:
            yield from (f"{place} {problem}" for problem in _differences(line.stats[key], actual[key]))


def _differences(stored: FeatureStats, actual: FeatureStats) -> Iterator[str]:
    for name in ("min", "max", "mean", "std", "count"):
        found, expected = _array(getattr(stored, name)), _array(getattr(actual, name))
        if found is None or expected is None or found.shape != expected.shape:
            yield f"have a {name} of another shape than the column"
        elif not np.allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True):
            yield f"say {name} = {getattr(stored, name)}, the column has {getattr(actual, name)}"


def _image_stats_problems(stored: FeatureStats, num_frames: int) -> Iterator[str]:
    arrays = {name: _array(getattr(stored, name)) for name in ("min", "max", "mean", "std")}
    for name, values in arrays.items():
        if values is None or values.shape != IMAGE_STATS_SHAPE:
            yield f"have a {name} that is not of shape (3, 1, 1): LeRobot cannot load the dataset"
        elif not ((values >= 0) & (values <= 1)).all():
            yield f"have a {name} outside 0 to 1"
    if num_frames and stored.count != [len(sample_indices(num_frames))]:
        yield f"have count {stored.count}, expected [{len(sample_indices(num_frames))}]"


def _array(values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        return None


def _check_videos(root: Path, info: Info, episode: EpisodeLine, *, quick: bool, problems: list[Problem]) -> int:
    num_videos = 0
    for key in info.video_keys:
        path = info.video_file(key, episode.episode_index)
        feature = info.features[key]
        if not (root / path).is_file() or len(feature.shape) != 3:
            continue
        num_videos += 1
        try:
            movie = read_movie(root / path, decode=not quick)
        except BadDataset as error:
            problems.append(Problem(path, str(error)))
            continue
        found = movie_problems(
            movie,
            num_frames=episode.length,
            fps=info.fps,
            height=feature.shape[0],
            width=feature.shape[1],
            codec=feature.video_info("video.codec"),
            pix_fmt=feature.video_info("video.pix_fmt"),
        )
        problems += [Problem(path, problem) for problem in found]
    return num_videos


def _provenance_problems(root: Path, info: Info) -> Iterator[Problem]:
    """Check the index of provenance, where there is one: LeRobot's own appends have none."""
    path = layout.PROVENANCE_PATH
    if not (root / path).exists():
        return
    try:
        lines = read_lines(root / path, ProvenanceLine)
    except BadDataset as error:
        yield Problem(path, str(error))
        return
    indices = [line.episode_index for line in lines]
    if indices != sorted(set(indices)) or any(index not in range(info.total_episodes) for index in indices):
        yield Problem(path, f"has the episodes {indices[:20]}, expected each at most once, ascending, below {info.total_episodes}")
    counts = Counter((line.source, line.episode_id, line.strategy) for line in lines)
    for (source, episode_id, strategy), count in sorted(counts.items()):
        if count > 1:
            yield Problem(path, f"episode {episode_id} of {source} ({strategy}) is in {count} times")
    for index in indices:
        if not (root / layout.manifest_path(index)).is_file():
            yield Problem(layout.manifest_path(index), "is missing, but the episode is in the index")
