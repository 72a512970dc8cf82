"""What a person sees of a conversion: one bar for the run, and a table of what became of each episode."""

from __future__ import annotations

from types import TracebackType

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from services.converter.assignment import Converted


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one episode: a part that was committed, an error, or only a note."""

    name: str
    converted: Converted | None = None
    error: str | None = None
    note: str = ""


class _FramesPerSecond(ProgressColumn):
    """Camera frames encoded per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.0f} frames/s" if task.speed else "- frames/s")


class ConversionBar:
    """One bar for all episodes of a run, in camera frames.

    Args:
        console: where it is drawn; nothing is drawn where that is no terminal.
        num_episodes: episodes of the run.
        num_frames: estimate of the frames to encode.
    """

    def __init__(self, console: Console, *, num_episodes: int, num_frames: int) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[done]}/{task.fields[episodes]} episodes"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            _FramesPerSecond(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("convert", total=num_frames, done=0, episodes=num_episodes)
        self._done, self._finished_frames = 0, 0

    def __enter__(self) -> ConversionBar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def advance(self, num_frames: int) -> None:
        """Count frames that have been encoded."""
        self._progress.advance(self._task, num_frames)

    def finished(self, num_frames: int) -> None:
        """Count an episode of ``num_frames`` (as estimated) that has ended, well or not."""
        self._done += 1
        self._finished_frames += num_frames
        completed = max(self._progress.tasks[0].completed, self._finished_frames)
        self._progress.update(self._task, done=self._done, completed=completed)


def summary_table(outcomes: list[Outcome]) -> Table:
    """Return the table at the end of a run: rows, dropped rows and alignment error per episode."""
    table = Table("episode", "rows", "dropped", "seconds", "error p50/p95/max ms", "drift max ms", "result", box=None, pad_edge=False)
    for column in table.columns[1:6]:
        column.justify = "right"
    table.columns[-1].overflow = "fold"
    for outcome in outcomes:
        table.add_row(Text(outcome.name), *_numbers(outcome.converted), _result(outcome))
    return table


def _numbers(converted: Converted | None) -> tuple[str, ...]:
    if converted is None:
        return ("-",) * 5
    report, error = converted.report, converted.report.worst_error
    return (
        str(report.num_rows),
        str(report.num_dropped),
        f"{converted.duration_s:.2f}",
        f"{error.p50_ms:.1f} / {error.p95_ms:.1f} / {error.max_ms:.1f}",
        f"{report.drift.max_ms:.1f}",
    )


def _result(outcome: Outcome) -> Text:
    return Text(f"failed: {outcome.error}", style="red") if outcome.error else Text(outcome.note, style="green")
