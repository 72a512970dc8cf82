"""The bar counts frames and episodes and is silent off a terminal; the table tells what became of each episode."""

from __future__ import annotations

import io

from rich.console import Console

from cli.progress import ConversionBar, Outcome, summary_table
from services.converter.assignment import Converted
from services.converter.report import AlignmentReport, Spread, StreamReport


def spread(size: float) -> Spread:
    return Spread(p50_ms=size, p95_ms=2 * size, max_ms=3 * size)


def stream(size: float) -> StreamReport:
    return StreamReport(
        num_samples=9,
        rate_hz=25.0,
        error=spread(size),
        num_held=0,
        num_repeated=0,
        num_unused=0,
        jitter=spread(0),
        max_gap_ms=0,
        max_gap_at_us=0,
    )


def converted() -> Converted:
    report = AlignmentReport(
        strategy="nearest",
        timeline="base",
        fps=25,
        num_rows=75,
        num_dropped=4,
        first_us=0,
        last_us=3_000_000,
        drift=spread(7),
        streams={"arm": stream(1), "cam": stream(5)},
    )
    return Converted(frames=75, duration_s=3.0, num_bytes=1, digest="sha256:0", report=report)


def printed(outcomes: list[Outcome]) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(summary_table(outcomes))
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_a_converted_episode_shows_rows_drops_time_and_the_worst_streams_errors() -> None:
    _, line = printed([Outcome(name="ep", converted=converted(), note="episode 7")])

    assert line == "ep 75 4 3.00 5.0 / 10.0 / 15.0 21.0 episode 7"


def test_a_failed_and_a_known_episode_show_only_their_sentence() -> None:
    lines = printed([Outcome(name="a", error="joints/x.parquet: is missing"), Outcome(name="b", note="already in the dataset")])

    assert lines[1:] == ["a - - - - - failed: joints/x.parquet: is missing", "b - - - - - already in the dataset"]


def test_brackets_in_names_and_errors_are_text_and_not_markup() -> None:
    _, line = printed([Outcome(name="ep[red]", error="found [1, 2] and [/bold]")])

    assert line == "ep[red] - - - - - failed: found [1, 2] and [/bold]"


def bar_output(*, terminal: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, _environ={})
    with ConversionBar(console, num_episodes=2, num_frames=100) as bar:
        bar.advance(30)
        bar.finished(50)
        bar.advance(20)
        bar.finished(50)
    return file.getvalue()


def test_the_bar_is_silent_where_nobody_watches() -> None:
    assert bar_output(terminal=False) == ""


def test_the_bar_ends_full_even_where_episodes_had_fewer_frames_than_estimated() -> None:
    last = bar_output(terminal=True).rsplit("\r", 1)[-1]

    assert "2/2 episodes" in last
    assert "100%" in last
