"""What a recorder is to do, and under which name.

Decides which of the configured sources an episode belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.recorder.options import RecordOptions
from shared.config import source_configs
from shared.entry import Loaded
from shared.errors import BadConfig

OWN_SOURCE = "robot"
"""The source of a laptop with one robot; taken where several are configured and nobody chose."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be recorded, and where everything is.

    Attributes:
        options: what was asked for.
        loaded: the configuration of bus, store and ledger.
        source: under which name episodes are published.
        folder: of the recorder: what is being recorded, and what has not gone out yet.
        environ: where LeRobot's calibration files lie.
        is_by_hand: somebody asks for each episode.
    """

    options: RecordOptions
    loaded: Loaded
    source: str
    folder: Path
    environ: Mapping[str, str]
    is_by_hand: bool = False


def chosen_source(options: RecordOptions, loaded: Loaded) -> str:
    """Return the source under which episodes are published: the one asked for, or the only one there is.

    Raises:
        BadConfig: it is not configured, or there are several.
    """
    names = [source.name for source in source_configs(loaded.storage)]
    wanted = options.source or (names[0] if len(names) == 1 else OWN_SOURCE)
    if wanted in names:
        return wanted
    found = f"{options.source} is not configured" if options.source else "is missing"
    raise BadConfig("--source", "", f"{found}: expected one of {', '.join(names)}, the sources of {loaded.path}")
