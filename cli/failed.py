"""`episodeflow failed`: what failed and why, and trying it again. Everything comes from the stream itself."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from cli.operation import config_option, connected, default_strategy, loaded, moment_s
from shared.causes import Failure, Selection
from shared.errors import BadEvent
from shared.events import Reason

if TYPE_CHECKING:
    from shared.bus import Bus
    from shared.causes import FailureLog
    from shared.entry import Loaded


def _selecting(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose failures."""
    options = (
        click.option("-s", "--source", metavar="SOURCE", help="Only this source."),
        click.option("--reason", type=click.Choice(get_args(Reason)), help="Only failures for this reason."),
        click.option("--error-type", metavar="NAME", help="Only this class of error, e.g. BadRaw."),
        click.option("--since", metavar="WHEN", help="Only failures since then: 90m, 1h, 7d, or a date such as 2026-11-20 (UTC)."),
        config_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group("failed")
def command() -> None:
    """See what failed and why, and publish it again.

    Failed episodes are kept on the stream. One that was published again and succeeded counts as recovered.
    """


@command.command("list")
@_selecting
@click.option("--all", "is_all", is_flag=True, help="Also what has recovered since.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON for scripts.")
def list_command(config_path: Path, is_all: bool, is_json: bool, **chosen: Any) -> None:
    """List failures grouped by cause: how many, which sources, when last, and an example.

    \b
    Example: episodeflow failed list --since 1d --source lab_1
    """
    from cli import failed_view  # noqa: PLC0415

    log = asyncio.run(_log(loaded(config_path)))
    found = log.failures(_selection(**chosen))
    shown = found if is_all else [failure for failure in found if failure.status != "recovered"]
    num_recovered = sum(failure.status == "recovered" for failure in found)
    if is_json:
        click.echo(failed_view.causes_json(shown, num_recovered=num_recovered, unreadable=log.unreadable))
    else:
        failed_view.print_causes(shown, num_recovered=num_recovered, unreadable=log.unreadable)


@command.command("show")
@click.argument("episode", metavar="EPISODE|MESSAGE")
@click.option("-s", "--source", metavar="SOURCE", help="Only this source.")
@config_option
@click.option("--json", "is_json", is_flag=True, help="Print the failed event as JSON.")
def show_command(config_path: Path, episode: str, source: str | None, is_json: bool) -> None:
    """Show all that is known about a failure, by the episode's name or by the number of its message.

    With the event to publish again, and how to do that with the stock `nats` tool.

    \b
    Example: episodeflow failed show episode_0001 -s lab_1
    """
    from cli import failed_view  # noqa: PLC0415

    configuration = loaded(config_path)
    for seq, status, failed in asyncio.run(_shown(configuration, episode, source)):
        if is_json:
            click.echo(failed_view.failure_json(seq, status, failed))
        else:
            failed_view.print_failure(seq, status, failed, stream=configuration.storage.nats.stream)


@command.command("republish")
@click.argument("episode_ids", nargs=-1, metavar="[EPISODE]...")
@_selecting
@click.option("--all", "is_all", is_flag=True, help="Everything that is failed; needed where nothing else chooses.")
@click.option("--again", is_flag=True, help="Also what has been published again and has no result yet.")
@click.option("--dry-run", is_flag=True, help="Only say what would be published.")
def republish_command(
    config_path: Path, episode_ids: tuple[str, ...], is_all: bool, again: bool, dry_run: bool, **chosen: str | None
) -> None:
    """Publish failed episodes again: by name, source, reason, error type or time.

    One failure is published once: the same command a second time reports what it had done already, unless --again.
    Exit status 1 if an episode could not be published.

    \b
    Example: episodeflow failed republish --error-type StoreUnavailable --since 1d
    """
    if not (is_all or episode_ids or any(chosen.values())):
        raise click.UsageError("say which: episodes, --source, --reason, --error-type, --since, or --all for everything that failed")
    configuration = loaded(config_path)
    selection = _selection(episode_ids=episode_ids, **chosen)
    if not asyncio.run(_republished(configuration, selection, again=again, dry_run=dry_run)):
        sys.exit(1)


def _selection(*, since: str | None = None, **fields: Any) -> Selection:
    return Selection(**fields, since_s=moment_s(since, now_s=time.time()) if since else None)


async def _log(configuration: Loaded) -> FailureLog:
    async with connected(configuration, name="failed") as bus:
        return await _read(bus, configuration)


async def _read(bus: Bus, configuration: Loaded) -> FailureLog:
    from shared.failures import FailureReader  # noqa: PLC0415

    return await FailureReader(bus, strategy=default_strategy(configuration)).catch_up()


async def _shown(configuration: Loaded, episode: str, source: str | None) -> list[tuple[int, str, Any]]:
    from shared.failures import failed_event  # noqa: PLC0415

    async with connected(configuration, name="failed") as bus:
        log = await _read(bus, configuration)
        found = log.failures(Selection(episode_ids=(episode,), source=source))
        status_by_seq = {failure.seq: str(failure.status) for failure in found}
        if not found and episode.isdecimal():
            statuses = {failure.seq: str(failure.status) for failure in log.failures()}
            status_by_seq = {int(episode): statuses.get(int(episode), "superseded")}
        if not status_by_seq:
            raise BadEvent(
                f"no failure of {episode!r}{f' of {source}' if source else ''} is on the stream: see `episodeflow failed list --all`"
            )
        return [(seq, status, await failed_event(bus, seq)) for seq, status in status_by_seq.items()]


async def _republished(configuration: Loaded, selection: Selection, *, again: bool, dry_run: bool) -> bool:
    """Publish what is selected and say so; return whether all of it went well."""
    async with connected(configuration, name="failed") as bus:
        log = await _read(bus, configuration)
        found = [failure for failure in log.failures(selection) if failure.status != "recovered"]
        due = [failure for failure in found if again or failure.status == "open"]
        for failure in found:
            if failure not in due:
                click.echo(f"{_name(failure)}: was published again and has no result yet, left alone (--again publishes it once more)")
        outcomes = [await _republish_one(bus, configuration, failure, again=again, dry_run=dry_run) for failure in due]
    missing = [name for name in selection.episode_ids if name not in {failure.episode_id for failure in found}]
    for name in missing:
        click.echo(f"{name}: nothing to publish again: it did not fail, or has recovered", err=True)
    click.echo(f"{sum(outcomes)} of {len(found)} failures {'would be ' if dry_run else ''}published again")
    return all(outcomes) and not missing


async def _republish_one(bus: Bus, configuration: Loaded, failure: Failure, *, again: bool, dry_run: bool) -> bool:
    from shared import events  # noqa: PLC0415
    from shared.failures import failed_event, ready_event, republish  # noqa: PLC0415

    try:
        event = ready_event(await failed_event(bus, failure.seq))
        configuration.places().raw(event)  # nobody would consume the event of a source that is not configured
        if dry_run:
            click.echo(f"{events.subject(event)} {events.encode(event).decode()}")
            return True
        receipt = await republish(bus, failure, again=again)
    except BadEvent as error:
        click.echo(f"{_name(failure)}: not published: {error}", err=True)
        return False
    what = (
        f"had been published again already, as message {receipt.seq}" if receipt.duplicate else f"published again as message {receipt.seq}"
    )
    click.echo(f"{_name(failure)}: {what}")
    return True


def _name(failure: Failure) -> str:
    return f"{failure.source}/{failure.episode_id}" + (f" ({failure.strategy})" if failure.strategy else "")
