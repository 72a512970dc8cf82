"""A local conversion: every raw episode of a folder into one LeRobot v2.1 dataset.

Episodes are converted side by side, each in a process of its own, and committed in the order of their names, so that the
dataset is the same whatever the number of workers. An episode that is already in the dataset is not converted again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from cli.progress import ConversionBar, Outcome, summary_table
from services.converter.assignment import Assignment, Converted, RawEpisode
from services.converter.raw import find_episodes, list_frames
from services.converter.worker import convert_in_process
from shared.config import StrategyConfig, load_strategy
from shared.errors import BadConfig, BadRaw, EpisodeflowError, Rejected
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.records import ProvenanceLine, read_lines

SOURCE = "local"


def load(path: Path, environ: Mapping[str, str], overrides: Mapping[str, Any]) -> StrategyConfig:
    """Return the strategy file with the command's options over it, complete for a local conversion.

    Raises:
        BadConfig: a key is wrong, or neither the file nor an option says where to read and write.
    """
    config = load_strategy(path, environ, overrides)
    for value, key, option in (
        (config.input.data_path, "input.data_path", "--input"),
        (config.output.base_path, "output.base_path", "--output"),
    ):
        if not value:
            raise BadConfig(str(path), key, f"is not set: set it, or give {option}")
    return config


def convert_all(config: StrategyConfig, names: tuple[str, ...], *, max_workers: int | None, overwrite: bool) -> bool:
    """Convert the episodes of the configured input and print what became of each; return whether none failed.

    Args:
        config: from ``load``.
        names: only these episodes; empty for all.
        max_workers: episodes converted at once; None for as many as keep the cores busy.
        overwrite: start the dataset anew.

    Raises:
        BadRaw: the input holds no episode, or not the named ones.
        Rejected: the dataset is being written by another process, or is none.
    """
    target = Path(str(config.output.base_path)).expanduser()
    data_path = Path(str(config.input.data_path)).expanduser()
    images_path = Path(config.input.images_path).expanduser() if config.input.images_path else data_path
    episodes = _selected(find_episodes(data_path, images_path), names, data_path)
    _check_target(target)
    with _work_folder(target) as scratch:
        if overwrite and target.exists():
            shutil.rmtree(target)
        workers = max_workers or max(1, (os.cpu_count() or 1) // len(config.cameras))
        outcomes = asyncio.run(_Run(config=config, target=target, scratch=scratch).all(episodes, workers))
    _report(outcomes, target)
    return not any(outcome.error for outcome in outcomes)


def _selected(episodes: dict[str, RawEpisode], names: tuple[str, ...], data_path: Path) -> dict[str, RawEpisode]:
    missing = [name for name in names if name not in episodes]
    if missing:
        known = list(episodes)
        listed = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
        raise BadRaw(str(data_path), f"holds no episode {', '.join(missing)} (found {listed})")
    return {name: episodes[name] for name in episodes if not names or name in names}


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside the dataset for parts, held by this process alone and empty at the start and the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.parent / f".{target.name}.episodeflow"
    folder.mkdir(exist_ok=True)
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Rejected(f"{target}: another convert is writing to this dataset; wait for it, or choose another --output") from None
    scratch = folder / "parts"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _check_target(target: Path) -> None:
    """Refuse, before an hour of work, a target that can neither take episodes nor be overwritten."""
    if target.exists() and not target.is_dir():
        raise Rejected(f"{target}: is a file, expected the folder of a dataset; choose another --output")
    if target.is_dir() and any(target.iterdir()) and not (target / layout.INFO_PATH).is_file():
        raise Rejected(
            f"{target}: is no LeRobot dataset (no meta/info.json), expected one or an empty folder; choose another --output, or remove it"
        )


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the command: where parts are made and which dataset takes them."""

    config: StrategyConfig
    target: Path
    scratch: Path

    async def all(self, episodes: dict[str, RawEpisode], workers: int) -> list[Outcome]:
        """Convert the episodes, ``workers`` at once, and commit each as soon as those before it are."""
        frames = {name: self._num_frames(raw) for name, raw in episodes.items()}
        slots = asyncio.Semaphore(workers)
        with ConversionBar(Console(stderr=True), num_episodes=len(episodes), num_frames=sum(frames.values())) as bar:
            async with asyncio.TaskGroup() as group:
                tasks = {name: group.create_task(self._converted(name, raw, slots, bar)) for name, raw in episodes.items()}
                outcomes = []
                for name, task in tasks.items():
                    outcome = await asyncio.to_thread(self._committed, name, await task)
                    bar.finished(frames[name])
                    outcomes.append(outcome)
        return outcomes

    def _num_frames(self, raw: RawEpisode) -> int:
        """Estimate the frames to encode, for the bar; a defect is found later, with its sentence."""
        try:
            frames = list_frames(raw, self.config.base_camera.name)
        except BadRaw:
            return 0
        return len(frames.names) * len(self.config.cameras) if frames else 0

    def _assignment(self, name: str, raw: RawEpisode) -> Assignment:
        folder = self.scratch / name.replace("/", "__")
        return Assignment(source=SOURCE, episode_id=name, raw=raw, config=self.config, folder=folder)

    async def _converted(
        self, name: str, raw: RawEpisode, slots: asyncio.Semaphore, bar: ConversionBar
    ) -> Converted | EpisodeflowError | None:
        """Return the part, the error, or None where the dataset holds the same episode already."""
        assignment = self._assignment(name, raw)
        async with slots:
            try:
                if await asyncio.to_thread(self._is_committed, assignment):
                    return None
                return await convert_in_process(assignment, bar.advance)
            except EpisodeflowError as error:
                return error

    def _is_committed(self, assignment: Assignment) -> bool:
        """Say whether the dataset holds this episode, made of the same files by the same recipe and software."""
        index = self.target / layout.PROVENANCE_PATH
        lines = read_lines(index, ProvenanceLine) if index.is_file() else []
        wanted = (SOURCE, assignment.episode_id, self.config.alignment.strategy)
        known = [line.digest for line in lines if (line.source, line.episode_id, line.strategy) == wanted]
        if not known:
            return False
        from services.converter.convert import input_digest  # noqa: PLC0415 - only a second run pays for the codec libraries

        return input_digest(assignment) in known

    def _committed(self, name: str, result: Converted | EpisodeflowError | None) -> Outcome:
        if result is None:
            return Outcome(name=name, note="already in the dataset")
        if isinstance(result, EpisodeflowError):
            return Outcome(name=name, error=str(result))
        try:
            committed = commit(self.scratch / name.replace("/", "__"), self.target)
        except EpisodeflowError as error:
            return Outcome(name=name, error=str(error))
        return Outcome(name=name, converted=result, note=f"episode {committed.episode_index}")


def _report(outcomes: list[Outcome], target: Path) -> None:
    console = Console()
    console.print(summary_table(outcomes))
    num_failed = sum(outcome.error is not None for outcome in outcomes)
    if num_failed < len(outcomes):
        console.print(f"dataset: {target}", soft_wrap=True, markup=False, highlight=False)
    if num_failed:
        console.print(f"{num_failed} of {len(outcomes)} episodes failed", style="red")
