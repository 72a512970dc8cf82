"""What the operator's commands share: the option for the storage file, a connected bus, moments and ages as people write them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.entry import DEFAULT_CONFIG, Loaded, load
from shared.errors import BadConfig

if TYPE_CHECKING:
    from shared.bus import Bus

config_option = click.option(
    "-c", "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_CONFIG, show_default=True, help="Storage file (YAML)."
)

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"^(\d+(?:\.\d+)?)([smhdw])\Z")


def loaded(config_path: Path) -> Loaded:
    """Return the configuration, with its notices printed.

    Raises:
        BadConfig: a file is missing or wrong.
    """
    found = load(config_path, os.environ)
    for notice in found.notices:
        click.echo(f"notice: {notice}", err=True)
    return found


def default_strategy(configuration: Loaded) -> str:
    """Return the strategy that an event without one means."""
    return configuration.storage.conversion.strategy or configuration.strategy.alignment.strategy


@asynccontextmanager
async def connected(configuration: Loaded, *, name: str) -> AsyncIterator[Bus]:
    """Give a bus for the block.

    Raises:
        BusUnavailable, Refused, BadConfig: see ``Bus.connect``.
    """
    from shared.bus import Bus  # noqa: PLC0415 - the help needs no bus

    with quiet():
        async with await Bus.connect(configuration.storage.nats, name=name) as bus:
            yield bus


@contextmanager
def quiet() -> Iterator[None]:
    """Keep log lines off the standard output inside the block, where scripts read JSON: what a person must know, the command says."""
    from shared.config import LoggingConfig  # noqa: PLC0415
    from shared.logs import Logging  # noqa: PLC0415

    logging = Logging.configure(LoggingConfig(level="ERROR", format="console"), stream=sys.stderr)
    try:
        yield
    finally:
        logging.close()


def moment_s(text: str, *, now_s: float) -> float:
    """Return ``1h`` (that long ago), ``2026-11-20`` or ``2026-11-20T08:30`` (UTC unless it says otherwise) in seconds since the epoch.

    Raises:
        BadConfig: it is neither.
    """
    ago = _AGO.match(text.strip())
    if ago:
        return now_s - float(ago[1]) * _UNITS_S[ago[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadConfig("--since", "", f"expected a span such as 90m, 1h or 7d, or a date such as 2026-11-20 (found {text!r})") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def clock_text(moment: float) -> str:
    """Return seconds since the epoch as ``2026-11-20 08:30:05`` UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def span_text(seconds: float | None) -> str:
    """Return a duration as ``42s``, ``3m 05s`` or ``2h 07m``; ``-`` for None."""
    if seconds is None:
        return "-"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d {whole % 86_400 // 3600:02d}h"
