"""`episodeflow nats-users`: who may do what on the bus, as nats-server reads it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from cli import operation


@click.command("nats-users")
@operation.config_option
def command(config_path: Path) -> None:
    """Print the users and permissions of the bus for the sources and the spool of a storage file.

    Passwords come from the environment of nats-server: NATS_CONVERTER_PASSWORD and so on. Run it again whenever sources or
    the spool change, then let nats-server read its configuration anew (nats-server --signal reload).

    \b
    Example: episodeflow nats-users -c config/storage.yaml > config/nats/users.conf
    """
    from shared.config import load_storage  # noqa: PLC0415 - the help needs no configuration
    from shared.entry import environment  # noqa: PLC0415
    from shared.permissions import password_variable, users_text  # noqa: PLC0415
    from shared.provision import bus_users  # noqa: PLC0415

    storage, _ = load_storage(config_path, environment(config_path, os.environ))
    table = bus_users(storage)
    click.echo("# Made by `episodeflow nats-users`: do not edit. One line of the table of permissions per subject.")
    click.echo(users_text(table, {user.name: f"${password_variable(user.name)}" for user in table}), nl=False)
