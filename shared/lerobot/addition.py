"""What a commit adds to a dataset: the files of one part, renumbered, as they will lie in the dataset.

Reads both sides and decides; writes nothing. Theory: an addition is a list of files in the order in which they
must become visible, ``meta/info.json`` last. A file is new bytes, another name for a video of the part, or an
existing jsonl file with a line more (so that 10^4 lines are copied, not parsed).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import BadDataset
from shared.events import NAME_PATTERN
from shared.lerobot import layout, rows, tables
from shared.lerobot.info import Feature, Info, encoded_info, grown, read_info
from shared.lerobot.part import episode_stats, provenance_line
from shared.lerobot.records import (
    EpisodeLine,
    ProvenanceLine,
    StatsLine,
    TaskLine,
    decoded_lines,
    encoded_line,
    encoded_lines,
    read_bytes,
    read_lines,
)

Array = NDArray[Any]

_ADVICE = "run the dataset check, and restore the dataset from a backup"


class NewFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the addition.

    Attributes:
        path: in the dataset.
        content: its bytes, or the bytes after what the dataset has under ``path``.
        linked: the file of the part that it is, or None.
        extends: whether ``content`` comes after the existing file.
    """

    path: str
    content: bytes = b""
    linked: Path | None = None
    extends: bool = False


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """The next state of a dataset: its new episode and the files to put in place, in this order."""

    episode_index: int
    num_frames: int
    files: tuple[NewFile, ...]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A one-episode dataset as a commit reads it."""

    root: Path
    info: Info
    manifest: bytes
    provenance: ProvenanceLine


def read_part(root: Path) -> Part:
    """Return the part at ``root``.

    Raises:
        BadDataset: it is incomplete, holds more than one episode, or has no manifest.
    """
    info = read_info(root)
    if info.total_episodes != 1:
        raise BadDataset(f"{root}: holds {info.total_episodes} episodes, a commit takes a part of exactly one")
    path = root / layout.manifest_path(0)
    manifest = read_bytes(path)
    return Part(root=root, info=info, manifest=manifest, provenance=provenance_line(manifest, episode_index=0, place=str(path)))


def committed_line(dataset: Path, provenance: ProvenanceLine) -> ProvenanceLine | None:
    """Return the index line of the dataset that names the same raw episode and digest, or None.

    Raises:
        BadDataset: the raw episode is in with another digest, or the index cannot be read.
    """
    path = dataset / layout.PROVENANCE_PATH
    wanted = (provenance.source, provenance.episode_id, provenance.strategy)
    content = read_bytes(path) if path.exists() else b""
    for line in decoded_lines(_naming(content, provenance.episode_id), ProvenanceLine, place=str(path)):
        if (line.source, line.episode_id, line.strategy) != wanted:
            continue
        if line.digest == provenance.digest:
            return line
        raise BadDataset(
            f"{dataset}: episode {line.episode_id} of {line.source} ({line.strategy}) is already in as episode {line.episode_index}, "
            f"made with digest {line.digest}, this one has {provenance.digest}: its raw files, configuration or software changed; "
            "delete the old episode first, or commit into another dataset"
        )
    return None


def _naming(content: bytes, episode_id: str) -> bytes:
    """Return the lines that may name an episode: of ten thousand, only those are worth decoding."""
    if not re.match(NAME_PATTERN, episode_id):
        return content  # JSON may write it in several ways
    return b"".join(line for line in content.splitlines(keepends=True) if episode_id.encode() in line)


def first_addition(part: Part) -> Addition:
    """Return the files of a new dataset whose only episode is ``part``."""
    empty = msgspec.structs.replace(part.info, total_episodes=0, total_frames=0, splits={})
    return _addition(part, info=empty, tasks=[])


def next_addition(part: Part, dataset: Path, *, has_data: bool = True) -> Addition:
    """Return the files that append ``part`` to ``dataset``.

    Args:
        part: the new episode.
        dataset: the dataset's folder.
        has_data: False for a folder that holds the metadata of a dataset in a bucket, and none of its tables.

    Raises:
        BadDataset: fps, robot type or features differ, or the dataset's own files contradict each other.
    """
    info = read_info(dataset)
    check_compatible(info, part.info)
    tasks = read_lines(dataset / layout.TASKS_PATH, TaskLine)
    _check_lines(dataset, info, tasks)
    if has_data:
        _check_tables(dataset, info)
    return _addition(part, info=info, tasks=tasks)


def check_compatible(existing: Info, new: Info) -> None:
    """Refuse a part that does not fit.

    Raises:
        BadDataset: names what the dataset has and what the part has.
    """
    if existing.fps != new.fps:
        raise BadDataset(f"FPS mismatch: existing dataset has fps={existing.fps}, but you specified fps={new.fps}.")
    if existing.robot_type != new.robot_type:
        raise BadDataset(
            f"Robot type mismatch: existing dataset has robot_type={existing.robot_type}, but you specified robot_type={new.robot_type}."
        )
    if set(existing.features) != set(new.features):
        raise BadDataset(f"Feature mismatch: existing dataset has {sorted(existing.features)}, but you specified {sorted(new.features)}.")
    for key, feature in existing.features.items():
        ours, theirs = _comparable(feature), _comparable(new.features[key])
        differing = [name for name, value in ours.items() if value is not None and theirs[name] is not None and value != theirs[name]]
        if differing or feature.names != new.features[key].names:
            raise BadDataset(
                f"Feature mismatch: existing dataset has {key} with {ours}, but you specified {theirs}. "
                "Commit into another dataset, or convert with the same configuration."
            )


def _comparable(feature: Feature) -> dict[str, Any]:
    """Return what must be equal; an older dataset may not say its codec, which is then not compared."""
    video = {name: feature.video_info(name) for name in ("video.codec", "video.pix_fmt")} if feature.is_video else {}
    return {"dtype": feature.dtype, "shape": list(feature.shape), "names": feature.names, **video}


def _check_lines(dataset: Path, info: Info, tasks: list[TaskLine]) -> None:
    """Refuse to build on a dataset whose next number is not certain."""
    for path in (layout.EPISODES_PATH, layout.STATS_PATH):
        num_lines = len(read_bytes(dataset / path).splitlines())
        if num_lines != info.total_episodes:
            raise BadDataset(f"{dataset}: {path} has {num_lines} lines, info.json says {info.total_episodes} episodes: {_ADVICE}")
    if [task.task_index for task in tasks] != list(range(info.total_tasks)):
        raise BadDataset(f"{dataset}: {layout.TASKS_PATH} is not numbered 0 to {info.total_tasks - 1} as info.json says: {_ADVICE}")


def _check_tables(dataset: Path, info: Info) -> None:
    next_file = info.data_file(info.total_episodes)
    if (dataset / next_file).exists():
        raise BadDataset(f"{dataset}: {next_file} is there, but info.json says {info.total_episodes} episodes: {_ADVICE}")
    if info.total_episodes and not (dataset / info.data_file(info.total_episodes - 1)).is_file():
        raise BadDataset(f"{dataset}: {info.data_file(info.total_episodes - 1)} is missing: {_ADVICE}")


def _addition(part: Part, *, info: Info, tasks: list[TaskLine]) -> Addition:
    episode_index = info.total_episodes
    line = _only_line(part.root / layout.EPISODES_PATH, EpisodeLine)
    part_tasks = read_lines(part.root / layout.TASKS_PATH, TaskLine)
    all_tasks = _extended(tasks, part_tasks)
    columns = tables.read_columns(part.root / part.info.data_file(0))
    num_frames = len(columns["frame_index"])
    renumbered = _renumbered(columns, info=info, part_tasks=part_tasks, all_tasks=all_tasks)
    table = NewFile(path=info.data_file(episode_index), content=tables.encoded_table(renumbered, info.columns))
    videos = [NewFile(path=info.video_file(key, episode_index), linked=part.root / part.info.video_file(key, 0)) for key in info.video_keys]
    lines = {
        layout.EPISODES_PATH: encoded_line(msgspec.structs.replace(line, episode_index=episode_index)),
        layout.STATS_PATH: encoded_line(_stats_line(part, renumbered, info=info)),
        layout.PROVENANCE_PATH: encoded_line(msgspec.structs.replace(part.provenance, episode_index=episode_index)),
    }
    new_info = _described(grown(info, num_frames=num_frames, total_tasks=len(all_tasks)), part.info)
    files = (
        *videos,
        NewFile(path=layout.manifest_path(episode_index), content=part.manifest),
        table,
        NewFile(path=layout.TASKS_PATH, content=encoded_lines(all_tasks[len(tasks) :]), extends=True),
        *(NewFile(path=path, content=content, extends=True) for path, content in lines.items()),
        NewFile(path=layout.INFO_PATH, content=encoded_info(new_info)),
    )
    return Addition(episode_index=episode_index, num_frames=num_frames, files=files)


def _described(info: Info, part_info: Info) -> Info:
    """Return ``info`` with what the part knows about a camera's video and the dataset does not say."""
    features = {
        key: feature if feature.info or not feature.is_video else msgspec.structs.replace(feature, info=part_info.features[key].info)
        for key, feature in info.features.items()
    }
    return msgspec.structs.replace(info, features=features)


def _only_line(path: Path, record_type: type[EpisodeLine]) -> EpisodeLine:
    lines = read_lines(path, record_type)
    if len(lines) != 1:
        raise BadDataset(f"{path}: has {len(lines)} lines, expected the one of a one-episode part; convert the episode again")
    return lines[0]


def _extended(tasks: list[TaskLine], part_tasks: list[TaskLine]) -> list[TaskLine]:
    texts = list(dict.fromkeys(task.task for task in (*tasks, *part_tasks)))
    new = [TaskLine(task_index=index, task=text) for index, text in enumerate(texts)][len({task.task for task in tasks}) :]
    return [*tasks, *(msgspec.structs.replace(task, task_index=len(tasks) + offset) for offset, task in enumerate(new))]


def _renumbered(columns: dict[str, Array], *, info: Info, part_tasks: list[TaskLine], all_tasks: list[TaskLine]) -> dict[str, Array]:
    """Return the part's columns with the numbers they get in the dataset."""
    index_by_text = {task.task: task.task_index for task in reversed(all_tasks)}
    new_index = np.array([index_by_text[task.task] for task in part_tasks], dtype=np.int64)
    if [task.task_index for task in part_tasks] != list(range(len(part_tasks))) or columns["task_index"].max() >= len(part_tasks):
        raise BadDataset("the part's task_index column and its tasks.jsonl do not agree: convert the episode again")
    numbered = rows.default_columns(
        num_frames=len(columns["frame_index"]),
        fps=info.fps,
        episode_index=info.total_episodes,
        first_index=info.total_frames,
        task_index=new_index[columns["task_index"]],
    )
    return {**columns, **numbered}


def _stats_line(part: Part, columns: dict[str, Array], *, info: Info) -> StatsLine:
    lines = read_lines(part.root / layout.STATS_PATH, StatsLine)
    numbered = {key: columns[key] for key in ("timestamp", "episode_index", "index", "task_index")}
    fresh = episode_stats(numbered, fps=info.fps)
    stats = {**(lines[0].stats if lines else {}), **{key: fresh[key] for key in ("episode_index", "index", "task_index")}}
    return StatsLine(episode_index=info.total_episodes, stats={key: stats[key] for key in info.features if key in stats})
