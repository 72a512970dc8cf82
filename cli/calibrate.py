"""`episodeflow calibrate`: teach the product an arm's middle and range, into LeRobot's own files."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shared.errors import BadConfig

if TYPE_CHECKING:
    from services.recorder.robots.models import Kind, RobotOptions

_SHOWN_EVERY_S = 0.2
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _arm_options(kind: str) -> Callable[[_Command], _Command]:
    """Return a decorator that adds the options of one kind, named as LeRobot names them."""
    names = ("type", "id", "port", "left_arm_port", "right_arm_port", "calibration_dir")

    def decorated(function: _Command) -> _Command:
        for name in reversed(names):
            function = click.option(f"--{kind}.{name}", f"{kind}_{name}", metavar="TEXT")(function)
        return function

    return decorated


@click.command("calibrate")
@_arm_options("robot")
@_arm_options("teleop")
def command(**values: str | None) -> None:
    """Calibrate an arm, or both arms of a bimanual robot: its middle and its range, into LeRobot's calibration file.

    Asks you to hold the arm in the middle, then to move each joint from end to end. If there is a file already, it can be
    written to the servos instead. Files lie where LeRobot looks for them (HF_LEROBOT_CALIBRATION, HF_LEROBOT_HOME).

    \b
    Example: episodeflow calibrate --robot.type=so100_follower --robot.port=/dev/ttyACM0 --robot.id=white
    Example: episodeflow calibrate --teleop.type=bi_so100_leader --teleop.left_arm_port=/dev/ttyACM2
             --teleop.right_arm_port=/dev/ttyACM3 --teleop.id=black
    """
    from services.recorder.robots.models import RobotOptions  # noqa: PLC0415 - the help needs no robot

    kinds: list[Kind] = [kind for kind in ("robot", "teleop") if values.get(f"{kind}_type")]
    if not kinds:
        raise click.UsageError("name an arm: --robot.type=… or --teleop.type=…")
    for kind in kinds:
        given = {name.removeprefix(f"{kind}_"): value for name, value in values.items() if name.startswith(f"{kind}_") and value}
        asyncio.run(_calibrated(RobotOptions(**given), kind=kind))  # type: ignore[arg-type]  # all of these are texts


async def _calibrated(options: RobotOptions, *, kind: Kind) -> None:
    from services.recorder.robots.arm import calibration_path, opened_arm  # noqa: PLC0415
    from services.recorder.robots.calibrating import calibrated  # noqa: PLC0415
    from services.recorder.robots.models import arm_plans  # noqa: PLC0415

    with TerminalPerson(sys.stdin.fileno()) as person:
        for plan in arm_plans(options, kind=kind):
            async with opened_arm(plan) as arm:
                await calibrated(arm, path=calibration_path(plan, os.environ), person=person)


class TerminalPerson:
    """A person at a plain terminal: lines in, lines out; no cursor movement, so that it works anywhere.

    Args:
        fd: where lines come from; terminals and pipes are waited for without a thread.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._bytes = bytearray()
        self._arrived = asyncio.Event()
        self._is_ended = False
        self._shown_at_s = 0.0

    def __enter__(self) -> TerminalPerson:
        try:
            self._loop.add_reader(self._fd, self._on_bytes)
        except PermissionError:  # a regular file never makes anybody wait
            while not self._is_ended:
                self._on_bytes()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_ended:
            self._loop.remove_reader(self._fd)

    def say(self, text: str) -> None:
        """Print a text."""
        click.echo(text)

    async def ask(self, text: str) -> str:
        """Print a text and return the next line.

        Raises:
            BadConfig: the input ended.
        """
        click.echo(text)
        while b"\n" not in self._bytes:
            if self._is_ended:
                raise BadConfig(
                    "standard input", "", "ended before the calibration was done, expected somebody to press Enter: nothing was saved"
                )
            self._arrived.clear()
            await self._arrived.wait()
        line, _, self._bytes = self._bytes.partition(b"\n")
        return line.decode(errors="replace")

    def show(self, ranges: dict[str, tuple[int, int, int]]) -> None:
        """Print one line with the ranges, not more often than anybody reads."""
        now_s = time.monotonic()
        if now_s - self._shown_at_s < _SHOWN_EVERY_S:
            return
        self._shown_at_s = now_s
        shown = "  ".join(f"{joint} {lowest}<{now}<{highest}" for joint, (lowest, now, highest) in ranges.items())
        click.echo(f"\r{shown}\x1b[K" if sys.stdout.isatty() else shown, nl=not sys.stdout.isatty())

    def _on_bytes(self) -> None:
        data = os.read(self._fd, 4096)
        self._bytes += data
        if not data:
            self._is_ended = True
            self._loop.remove_reader(self._fd)
        self._arrived.set()
