"""What the entry points share: the storage file and the strategy file it names, logging, and a service's run.

Decides where the files are looked for and what a command says when one of them is wrong. Does not know any service.

A folder of `episodeflow up` holds, beside its storage file, a private file with the credentials that were generated for
its servers. They belong to that storage file, so whoever may read it needs to export nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from shared import lifecycle, logs, settings
from shared.config import StorageConfig, StrategyConfig, decode_strategy, load_storage
from shared.errors import BadConfig, EpisodeflowError
from shared.permissions import password_variable
from shared.places import Places, lerobot_home, resolve

DEFAULT_CONFIG = Path("config/storage.yaml")
CREDENTIALS_FILE = "credentials.env"

_log = logs.logger("entry")


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one process.

    Attributes:
        path: the storage file.
        storage: what it says.
        template_path: the strategy file it names, found.
        template: the strategy file's document, for overrides.
        strategy: what the document says.
        notices: sentences about keys that no longer mean anything.
        lerobot_home: the folder in which LeRobot looks for datasets; it may begin with ``~``.
    """

    path: Path
    storage: StorageConfig
    template_path: Path
    template: dict[str, Any]
    strategy: StrategyConfig
    notices: tuple[str, ...]
    lerobot_home: str

    def places(self) -> Places:
        """Return where everything is, relative paths starting from the current folder.

        Raises:
            BadConfig: see ``shared.places.resolve``.
        """
        return resolve(self.storage, self.strategy, here=str(Path.cwd()), home=str(Path.home()), lerobot_home=self.lerobot_home)


Story = Callable[[Loaded, asyncio.Event, AsyncExitStack], Awaitable[object]]
"""A service's story: runs until the event is set, opens on the stack, returns its counts."""


def load(path: Path, environ: Mapping[str, str], *, service: str | None = None) -> Loaded:
    """Return the storage file, and the strategy file it names.

    Args:
        path: the storage file.
        environ: environment variables for ``${NAME}`` and credentials.
        service: who loads it; None: a person.

    Raises:
        BadConfig: a file is missing or wrong; the message names file, key and what was expected.
    """
    environ = environment(path, environ, service=service)
    storage, notices = load_storage(path, environ)
    template_path = find_template(storage.conversion.config_template, path)
    template = settings.read_yaml(template_path, environ)
    strategy = decode_strategy(template, place=str(template_path))
    return Loaded(
        path=path,
        storage=storage,
        template_path=template_path,
        template=template,
        strategy=strategy,
        notices=tuple(notices),
        lerobot_home=lerobot_home(environ),
    )


def environment(path: Path, environ: Mapping[str, str], *, service: str | None = None) -> dict[str, str]:
    """Return the environment for the storage file at ``path``: the credentials beside it lie over the variables.

    A service that has a password of its own there is its own user of the bus, with no more permissions than it needs.

    Raises:
        BadConfig: the credentials cannot be read, or others can read them.
    """
    beside = _credentials_beside(path)
    password = beside.get(password_variable(service)) if service else None
    own = {"NATS_USER": service, "NATS_PASSWORD": password} if service and password else {}
    return {**environ, **beside, **own}


def find_template(template: str, storage_path: Path) -> Path:
    """Return the strategy file: below the current folder, else the storage file's folder, else the one above that.

    Raises:
        BadConfig: it is in none of them; the message names them all.
    """
    folder = storage_path.absolute().parent
    tried = list(dict.fromkeys((start / Path(template).expanduser()).absolute() for start in (Path.cwd(), folder, folder.parent)))
    for path in tried:
        if path.is_file():
            return path
    listed = ", ".join(str(path) for path in tried)
    raise BadConfig(str(storage_path), "conversion.config_template", f"names {template!r}, which is not there (looked for {listed})")


def config_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the option that every service has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("-c", "--config", type=Path, default=DEFAULT_CONFIG, help="storage file (default: %(default)s)")
    return parser


def serve(path: Path, story: Story, *, service: str) -> int:
    """Load the configuration, run a service with it, and return the exit code of its process.

    Args:
        path: the storage file.
        story: what the service does.
        service: its name in the log.
    """
    try:
        loaded = load(path, os.environ, service=service)
        logging = logs.Logging.configure(loaded.storage.logging)
    except EpisodeflowError as error:
        sys.stderr.write(f"error: {error}\n")
        return lifecycle.EXIT_FAILED
    for notice in (*loaded.notices, *logging.notices):
        _log.warning("config.notice", notice=notice)

    async def told(stopping: asyncio.Event, stack: AsyncExitStack) -> object:
        return await story(loaded, stopping, stack)

    try:
        return lifecycle.run(told, service=service)
    finally:
        logging.close()


def _credentials_beside(path: Path) -> dict[str, str]:
    """Return the ``NAME=value`` lines of the private file that `episodeflow up` left beside its storage file."""
    file = path.parent / CREDENTIALS_FILE
    try:
        opened = file.open(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadConfig(str(file), "", f"cannot be read: {error}; only the user who ran `episodeflow up` may") from error
    with opened:
        if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
            raise BadConfig(str(file), "", "holds credentials and others may read it: chmod 600 it")
        pairs = (line.strip().partition("=") for line in opened if "=" in line)
        return {name: value for name, _, value in pairs}
