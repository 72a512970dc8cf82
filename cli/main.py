"""`episodeflow`: the table of commands. A command's module is imported when it runs, so that each starts fast."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from shared.errors import EpisodeflowError
from shared.version import VERSION

COMMANDS = {
    "convert": ("cli.convert", "Convert local raw episodes into one LeRobot dataset."),
    "check": ("cli.check", "Find everything that is wrong with a dataset."),
    "push": ("cli.push", "Bring a dataset to the Hugging Face Hub."),
    "demo": ("cli.demo", "Record a simulated robot into a dataset, the whole way."),
    "up": ("cli.up", "Run the whole system on this machine, without containers."),
    "publish": ("cli.publish", "Announce a raw episode by hand."),
    "provision": ("cli.provision", "Create or update the stream and its consumers."),
    "nats-users": ("cli.nats_users", "Print the users and permissions of the bus for nats-server."),
    "scanner": ("cli.scanner", "Run the scanner: announces episodes nobody announced."),
    "converter": ("cli.converter", "Run a converter: raw episodes become datasets."),
    "uploader": ("cli.uploader", "Run an uploader: datasets go to their target."),
    "recorder": ("cli.recorder", "Run a recorder: records a robot when asked over the bus."),
    "failed": ("cli.failed", "See what failed and why, and publish it again."),
    "monitor": ("cli.monitor", "Watch what is pending, in flight, failed and done."),
    "doctor": ("cli.doctor", "Check files, servers, permissions and disks, and say what to do."),
    "trace": ("cli.trace", "Say what an episode of a dataset was made from."),
    "record": ("cli.record", "Teleoperate a robot and record episodes into a growing dataset."),
    "simulate": ("cli.simulate", "Simulate a bimanual robot behind serial ports."),
    "calibrate": ("cli.calibrate", "Calibrate an arm into LeRobot's own files."),
    "migrate": ("cli.migrate", "Move the tasks of the old Redis lists onto the stream."),
}
ALIASES = {"worker": "converter"}


class _Commands(click.Group):
    """Finds a command in the table and imports its module."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        names_by_command = {name: [name, *(alias for alias, command in ALIASES.items() if command == name)] for name in COMMANDS}
        with formatter.section("Commands"):
            formatter.write_dl([(", ".join(names_by_command[name]), text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, package_name="episodeflow")
def commands() -> None:
    """Turn robot teleoperation into LeRobot training datasets.

    On one machine: `episodeflow convert`. As a system of services: `episodeflow up`, or each service by its command.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; an error of the product is one sentence on stderr and exit status 1; what it brings about comes after it."""
    try:
        return commands.main(args=arguments, prog_name="episodeflow", standalone_mode=True)
    except EpisodeflowError as error:
        click.echo("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), err=True)
        sys.exit(1)
