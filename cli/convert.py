"""`episodeflow convert`: every raw episode of a folder into one LeRobot v2.1 dataset.

Episodes are converted side by side, each in a process of its own, and committed in the order of their names, so that the
dataset is the same whatever the number of workers. An episode that is already in the dataset is not converted again.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from rich.console import Console

from cli.progress import ConversionBar, Outcome, summary_table
from services.converter.assignment import Assignment, Converted, RawEpisode
from services.converter.raw import find_episodes, list_frames
from services.converter.worker import convert_in_process
from shared.config import StrategyConfig, load_strategy
from shared.errors import BadConfig, BadRaw, EpisodeflowError, Rejected
from shared.events import Strategy
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.records import ProvenanceLine, read_lines

SOURCE = "local"


@click.command("convert")
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), required=True, help="Strategy file (YAML).")
@click.option("-e", "--episode", "names", multiple=True, metavar="NAME", help="Convert only this episode; may be repeated.")
@click.option("--strategy", type=click.Choice(get_args(Strategy)), help="Alignment strategy in place of the file's.")
@click.option("--input", "input_path", type=click.Path(path_type=Path), help="Folder of raw episodes in place of the file's.")
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the dataset in place of the file's.")
@click.option("--max-workers", type=click.IntRange(min=1), help="Episodes converted at once. [default: cores / cameras]")
@click.option("--overwrite", is_flag=True, help="Start the dataset anew instead of adding to it.")
def command(
    config_path: Path,
    names: tuple[str, ...],
    strategy: str | None,
    input_path: Path | None,
    output: Path | None,
    max_workers: int | None,
    overwrite: bool,
) -> None:
    """Convert local raw episodes into one LeRobot v2.1 dataset.

    Exit status 1 if an episode failed; the others are in the dataset all the same.
    """
    config = load_strategy(config_path, os.environ, _overrides(strategy, input_path, output))
    target = Path(_required(config.output.base_path, config_path, "output.base_path", "--output")).expanduser()
    data_path = Path(_required(config.input.data_path, config_path, "input.data_path", "--input")).expanduser()
    images_path = Path(config.input.images_path).expanduser() if config.input.images_path else data_path
    episodes = _selected(find_episodes(data_path, images_path), names, data_path)
    with _work_folder(target) as scratch:
        if overwrite:
            _remove_dataset(target)
        workers = max_workers or max(1, (os.cpu_count() or 1) // len(config.cameras))
        outcomes = asyncio.run(_Run(config=config, target=target, scratch=scratch).all(episodes, workers))
    _report(outcomes, target)
    sys.exit(1 if any(outcome.error for outcome in outcomes) else 0)


def _overrides(strategy: str | None, input_path: Path | None, output: Path | None) -> dict[str, Any]:
    chosen = {
        "alignment.strategy": strategy,
        "input.data_path": input_path and str(input_path),
        "input.images_path": input_path and str(input_path),
        "output.base_path": output and str(output),
    }
    return {key: value for key, value in chosen.items() if value}


def _required(value: str | None, config_path: Path, key: str, option: str) -> str:
    if not value:
        raise BadConfig(str(config_path), key, f"is not set: set it, or give {option}")
    return value


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


def _remove_dataset(target: Path) -> None:
    if not target.exists():
        return
    if any(target.iterdir()) and not (target / "meta" / "info.json").is_file():
        raise Rejected(f"{target}: is no LeRobot dataset (no meta/info.json), so --overwrite does not remove it; remove it yourself")
    shutil.rmtree(target)


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
        console.print(f"dataset: {target}", soft_wrap=True)
    if num_failed:
        console.print(f"{num_failed} of {len(outcomes)} episodes failed", style="red")
