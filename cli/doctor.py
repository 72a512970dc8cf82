"""`episodeflow doctor`: is everything in place, and what to do where it is not."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.finding import Finding, fail
from cli.operation import config_option, quiet
from shared.errors import BadConfig

_STYLE_BY_LEVEL = {"ok": "green", "warn": "yellow", "FAIL": "bold red"}


@click.command("doctor")
@click.option("--write", "is_written", is_flag=True, help="Also write, read and delete a small object in every store.")
@click.option("--json", "is_json", is_flag=True, help="Print JSON for scripts.")
@config_option
def command(config_path: Path, is_written: bool, is_json: bool) -> None:
    """Check configuration, credentials, servers, permissions, disks, encoders and clocks, and say what to do.

    One line for each check: ok, warn or FAIL. Changes nothing. Exit status 1 if there is a FAIL.

    \b
    Example: episodeflow doctor -c config/storage.yaml --write
    """
    with quiet():
        findings = asyncio.run(_findings(config_path, is_written=is_written))
    if is_json:
        click.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
    else:
        print_findings(findings)
    if any(finding.level == "FAIL" for finding in findings):
        sys.exit(1)


async def _findings(config_path: Path, *, is_written: bool) -> list[Finding]:
    import os  # noqa: PLC0415 - the help needs nothing of this

    from cli import checks_host, checks_servers  # noqa: PLC0415
    from shared.entry import load  # noqa: PLC0415

    findings = [*checks_host.version_findings(), *checks_host.clock_findings()]
    try:
        configuration = load(config_path, os.environ)
    except BadConfig as error:
        return [*findings, fail("configuration", str(error), "correct it; nothing else can be checked before")]
    storage = configuration.storage
    findings += [*checks_host.configuration_findings(configuration), *checks_host.credential_findings(storage)]
    findings += [*checks_host.folder_findings(storage), *checks_host.encoder_findings(configuration.strategy.video)]
    findings += [finding async for finding in checks_servers.nats_findings(storage)]
    findings += [finding async for finding in checks_servers.redis_findings(storage)]
    if not any(finding.check == "places" for finding in findings):
        findings += [finding async for finding in checks_servers.store_findings(configuration, is_written=is_written)]
    return findings


def print_findings(findings: list[Finding], console: Console | None = None) -> None:
    """Print one row per finding, and how many of each level there are."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        found = Text(finding.found)
        if finding.remedy:
            found.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(finding.level, style=_STYLE_BY_LEVEL[finding.level]), Text(finding.check), found)
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in _STYLE_BY_LEVEL}
    console.print(Text(", ".join(f"{count} {level}" for level, count in counts.items())))
