"""Failures as a person or a script sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.operation import clock_text
from shared import events
from shared.causes import Cause, Failure, causes
from shared.errors import BadEvent
from shared.events import EpisodeFailed
from shared.failures import ready_event


def causes_json(failures: Sequence[Failure], *, num_recovered: int, unreadable: Sequence[int]) -> str:
    """Return ``{failures, recovered, unreadable, causes: [...]}``; a cause has the fields of ``shared.causes.Cause``."""
    document = {
        "failures": len(failures),
        "recovered": num_recovered,
        "unreadable": list(unreadable),
        "causes": [msgspec.to_builtins(cause) for cause in causes(failures)],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def print_causes(failures: Sequence[Failure], *, num_recovered: int, unreadable: Sequence[int], console: Console | None = None) -> None:
    """Print one row per cause, and a line of totals.

    Args:
        failures: what is shown.
        num_recovered: how many have recovered, shown or not.
        unreadable: numbers of failed events that do not decode.
        console: where to; None: standard output.
    """
    console = console or Console()
    grouped = causes(failures)
    if grouped:
        console.print(_causes_table(grouped))
    retried = sum(failure.status == "retried" for failure in failures)
    num_open = sum(failure.status == "open" for failure in failures)
    console.print(Text(f"{num_open} failed, {retried} published again without a result yet, {num_recovered} recovered"))
    if unreadable:
        console.print(Text(f"{len(unreadable)} failed events do not decode: messages {', '.join(map(str, unreadable[:10]))}"))


def _causes_table(grouped: Sequence[Cause]) -> Table:
    table = Table("count", "cause", "sources", "newest (UTC)", "example", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.columns[0].justify = "right"
    table.columns[1].ratio = 1
    table.columns[3].min_width = 10
    for column in table.columns[1:]:
        column.overflow = "fold"
    for cause in grouped:
        what = Text.assemble((f"{cause.reason} {cause.error_type}", "bold"), f"\n{cause.error}")
        example = Text(f"{cause.example.episode_id}\nmessage {cause.example.seq}")
        table.add_row(
            Text(_counts(cause)), what, Text("\n".join(cause.sources)), Text(clock_text(cause.newest_at).replace(" ", "\n")), example
        )
    return table


def _counts(cause: Cause) -> str:
    others = [f"{count} {status}" for status, count in sorted(cause.count_by_status.items()) if status != "open"]
    return "\n".join([str(cause.count), *others])


def failure_json(seq: int, status: str, failed: EpisodeFailed) -> str:
    """Return ``{message, status, subject, event}``."""
    document: dict[str, Any] = {
        "message": seq,
        "status": status,
        "subject": events.subject(failed),
        "event": msgspec.to_builtins(failed),
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def print_failure(seq: int, status: str, failed: EpisodeFailed, *, stream: str, console: Console | None = None) -> None:
    """Print everything about one failure, and the commands that try it again.

    Args:
        seq: number of the failed event in the stream.
        status: open, retried, recovered or superseded (by a later failure of the same episode).
        failed: the event.
        stream: name of the stream.
        console: where to; None: standard output.
    """
    console = console or Console()
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(seq, status, failed).items():
        table.add_row(name, Text(value))
    console.print(table)
    console.print(Text(_advice(seq, failed, stream=stream)), soft_wrap=True)


def _facts(seq: int, status: str, failed: EpisodeFailed) -> dict[str, str]:
    facts = {
        "episode": f"{failed.episode_id} of {failed.source}",
        "strategy": failed.strategy or "the configured one",
        "message": f"{seq} on {events.subject(failed)}",
        "status": status,
        "failed at": f"{clock_text(failed.failed_at)} UTC on {failed.host}, by the {failed.stage}",
        "reason": f"{failed.reason} after {failed.attempts} attempt{'s' if failed.attempts != 1 else ''}",
        "error": f"{failed.error_type}: {failed.error}",
    }
    if failed.converted is not None:
        facts["converted"] = f"{failed.converted.frames} frames in spool {failed.converted.spool}, {failed.converted.path}"
    return facts


def _advice(seq: int, failed: EpisodeFailed, *, stream: str) -> str:
    try:
        body = events.encode(ready_event(failed)).decode()
    except BadEvent as error:
        return f"\n{error}"
    return (
        f"\nevent to publish again, on episode.ready.{failed.source}:\n{body}\n"
        f"\nwith our command:\n  episodeflow failed republish {failed.episode_id} -s {failed.source}\n"
        f"\nwith the stock nats tool:\n  nats stream get {stream} {seq} --json | jq -r .data | base64 -d |"
        " nats pub --jetstream --no-templates --force-stdin episode.ready\n"
    )
