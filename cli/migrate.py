"""`episodeflow migrate`: tasks of the old polling design, from Redis lists onto the stream."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from cli.operation import config_option, connected, loaded
from shared import events
from shared.errors import BadEvent
from shared.events import EpisodeReady

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.entry import Loaded
    from shared.ledger import Ledger

WAITING_LIST = "lerobot:episodes"
FAILED_LIST = "lerobot:failed"

_DEADLINE_S = 30.0
_SHOWN_CHARACTERS = 200


@click.command("migrate")
@click.option("--waiting", default=WAITING_LIST, show_default=True, metavar="KEY", help="Redis list of tasks that wait.")
@click.option("--failed", "failed_key", default=FAILED_LIST, show_default=True, metavar="KEY", help="Redis list of tasks that failed.")
@click.option("--dry-run", is_flag=True, help="Only say what would be moved.")
@config_option
def command(config_path: Path, waiting: str, failed_key: str, dry_run: bool) -> None:
    """Move the tasks that the old design left in Redis lists onto the stream.

    Each task is published first and then removed from its list, so none is lost; stopped in the middle, run it again. Tasks
    that cannot be read stay where they are and are named. Exit status 1 if some stayed.

    \b
    Example: episodeflow migrate --dry-run
    """
    if not asyncio.run(_migrated(loaded(config_path), (waiting, failed_key), dry_run=dry_run)):
        sys.exit(1)


def task_event(item: str) -> EpisodeReady:
    """Return the task in a list's item: the task itself, or a failure that holds it under ``task``; other keys are ignored.

    Raises:
        BadEvent: it is no task.
    """
    body = item.encode("utf-8", "surrogateescape")
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadEvent(f"is no JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("task"), dict):
        document = document["task"]
    return events.decode(msgspec.json.encode(document), EpisodeReady)


async def _migrated(configuration: Loaded, keys: tuple[str, ...], *, dry_run: bool) -> bool:
    """Move every task and say so; return whether none had to stay."""
    from shared.ledger import Ledger  # noqa: PLC0415 - the help needs no Redis

    num_stayed = 0
    async with connected(configuration, name="migrate") as bus, Ledger(configuration.storage.redis) as ledger:
        for key in keys:
            items = await ledger.listed(key)
            outcomes = [await _move(bus, ledger, configuration, key=key, item=item, dry_run=dry_run) for item in items]
            num_stayed += outcomes.count(False)
            click.echo(f"{key}: {outcomes.count(True)} of {len(items)} tasks {'would be ' if dry_run else ''}moved")
    return not num_stayed


async def _move(bus: Bus, ledger: Ledger, configuration: Loaded, *, key: str, item: str, dry_run: bool) -> bool:
    try:
        event = task_event(item)
        configuration.places().raw(event)  # nobody would consume the event of a source that is not configured
    except BadEvent as error:
        shown = item[:_SHOWN_CHARACTERS].encode("utf-8", "backslashreplace").decode()
        click.echo(f"{key}: stays: {error}: {shown}", err=True)
        return False
    if dry_run:
        click.echo(f"{events.subject(event)} {events.encode(event).decode()}")
        return True
    # The id follows from the item: where this was stopped before the removal, the next run publishes nothing new.
    digest = hashlib.sha256(item.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    message_id = f"ready:{event.source}:{event.episode_id}:{event.strategy or 'configured'}:migrated-{digest}"
    await bus.publish(event, message_id=message_id, deadline_s=_DEADLINE_S)
    await ledger.unlist(key, item)
    return True
