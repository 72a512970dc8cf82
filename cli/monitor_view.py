"""An overview as a person sees it: tables for a terminal of 80 columns and more."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.operation import clock_text, span_text
from cli.overview import ConsumerRow, Overview, SourceRow
from shared.progress import Progress


def overview_view(overview: Overview) -> RenderableType:
    """Return the whole picture."""
    parts: list[RenderableType] = [Text(f"episodeflow  {clock_text(overview.at)} UTC", style="bold"), Text(), _sources(overview.sources)]
    parts += [Text(), _episodes(overview) if overview.episodes else Text("nothing is being worked on", style="dim")]
    uploads = [row for row in overview.consumers if not row.subject.startswith("episode.ready.")]
    if any(row.pending or row.in_flight for row in uploads):
        parts += [Text(), _waiting(uploads)]
    warnings = [Text(f"! {warning}", style="yellow") for warning in _warnings(overview)]
    return Group(*parts, *([Text(), *warnings] if warnings else []))


def _sources(rows: tuple[SourceRow, ...]) -> Table:
    table = _table("source", "pending", "in flight", "failed", "completed", "oldest", "per min", "ETA")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        failed = Text(str(row.failed), style="red" if row.failed else "")
        failed.append(f"\n+{row.retried} retried" if row.retried else "", style="dim")
        eta = "-" if not row.pending + row.in_flight else span_text(row.eta_s) if row.eta_s is not None else "?"
        table.add_row(
            Text(row.source),
            str(row.pending),
            str(row.in_flight),
            failed,
            str(row.completed),
            span_text(row.oldest_s),
            f"{row.per_minute:.1f}",
            eta,
        )
    return table


def _episodes(overview: Overview) -> Table:
    table = _table("in flight", "source", "stage", "frames", "for", "worker")
    table.columns[3].justify = table.columns[4].justify = "right"
    for progress in overview.episodes:
        table.add_row(
            Text(progress.episode_id),
            Text(progress.source),
            progress.stage,
            _frames(progress),
            span_text(overview.at - progress.started_at),
            Text(f"{progress.worker}\n{progress.host}:{progress.pid}"),
        )
    return table


def _frames(progress: Progress) -> str:
    if progress.stage != "converting":
        return "-"
    if not progress.frames_total:
        return str(progress.frames_done)
    percent = min(99, progress.frames_done * 100 // progress.frames_total)
    return f"{progress.frames_done}/{progress.frames_total} {percent}%"


def _waiting(rows: list[ConsumerRow]) -> Table:
    table = _table("also waiting", "pending", "in flight", "oldest")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(Text(row.subject), str(row.pending), str(row.in_flight), span_text(row.oldest_s))
    return table


def _warnings(overview: Overview) -> Iterator[str]:
    for subject, count in overview.unconsumed.items():
        yield f"nobody consumes {subject} ({count} events): add its source to the storage file, then run `episodeflow provision`"
    is_any_busy = any(row.state == "busy" for row in overview.consumers)
    for row in overview.consumers:
        if row.state != "unserved":
            continue
        waiting = f"{row.pending} waiting, " if row.pending else ""
        service = "converter" if row.subject.startswith("episode.ready") else "uploader"
        why = f"start one, unless all are busy: `episodeflow {service}`" if is_any_busy else f"start one: `episodeflow {service}`"
        yield f"no worker serves {row.name} ({waiting}{why})"
    yield from overview.notices


def _table(*headers: str) -> Table:
    table = Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    return table
