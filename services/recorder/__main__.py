"""``python -m services.recorder``: the recorder of one robot as a process; ``episodeflow recorder`` takes the same flags."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from services.recorder.options import RecordOptions, record_options
from services.recorder.order import Order, chosen_source
from services.recorder.remote import robot_token
from services.recorder.service import serve as serve_recorder
from shared import entry
from shared.settings import read_yaml

DEFAULT_STATE = Path("/var/lib/episodeflow")


def main(arguments: list[str] | None = None) -> int:
    """Record when asked until stopped, and return the exit code."""
    parser = entry.config_parser("recorder", "Drive a robot and record episodes when asked over the bus.")
    parser.add_argument("--config_path", type=Path, help="YAML file with the flags of `record`")
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder for what has not gone out yet (default: %(default)s)")
    flags, rest = parser.parse_known_args(arguments)
    return serve(flags.config, rest, flags_path=flags.config_path, state=flags.state)


def serve(config_path: Path, arguments: Sequence[str], *, flags_path: Path | None, state: Path) -> int:
    """Record as the flags of a file and of a command line say, and return the exit code.

    Args:
        config_path: storage file.
        arguments: flags of `record`.
        flags_path: YAML file with such flags, under those of the command line.
        state: folder for what has not gone out yet.
    """

    async def story(loaded: entry.Loaded, stopping: asyncio.Event, stack: AsyncExitStack) -> dict[str, int]:
        file = read_yaml(flags_path, os.environ) if flags_path else None
        options = record_options(arguments, file=file, place=str(flags_path or ""))
        return await serve_recorder(_order(options, loaded, state), stopping=stopping, stack=stack)

    return entry.serve(config_path, story, service="recorder")


def _order(options: RecordOptions, loaded: entry.Loaded, state: Path) -> Order:
    folder = state / "recorder" / robot_token(options.robot.id or options.robot.type)
    source = chosen_source(options, loaded)
    return Order(options=options, loaded=loaded, source=source, folder=folder, environ=dict(os.environ), is_by_hand=True)


if __name__ == "__main__":
    sys.exit(main())
