"""The saver's own process; `services/recorder/saver.py` starts it and talks to it over its standard input and output."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path

from services.recorder.saving import channel
from services.recorder.saving.news import Unusable
from services.recorder.saving.process import ORPHANED_SIGNAL, serve
from shared import logs
from shared.entry import load
from shared.errors import EpisodeflowError

_PR_SET_PDEATHSIG = 1
_NICENESS = 5
"""Whoever drives the arms, or a camera, goes first; still before whoever converts as a batch."""


def main() -> int:
    """Run the saver, and return the exit code of its process."""
    parser = argparse.ArgumentParser(prog="saver", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--first", action="store_true")
    arguments = parser.parse_args()
    telling = _own_pipe()
    _end_with_parent()
    os.nice(_NICENESS)
    try:
        loaded = load(arguments.config, os.environ, service="recorder")
        logging = logs.Logging.configure(loaded.storage.logging)
        try:
            pipes = (sys.stdin.fileno(), telling)
            asyncio.run(serve(loaded, arguments.folder, source=arguments.source, is_first=arguments.first, descriptors=pipes))
        finally:
            logging.close()
    except EpisodeflowError as error:
        channel.send_news(telling, Unusable(sentence=str(error)))
        return 1
    return 0


def _own_pipe() -> int:
    """Keep the standard output for the parent alone: whatever a library prints goes to the log."""
    telling = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return telling


def _end_with_parent() -> None:
    """Leave signals of a terminal, or of a supervisor to all of us, to our parent; on Linux its death is one, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(ORPHANED_SIGNAL, signal.SIG_IGN)  # until there is a loop; the end of the pipe says the same
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ORPHANED_SIGNAL)


if __name__ == "__main__":
    sys.exit(main())
