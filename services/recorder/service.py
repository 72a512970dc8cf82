"""The recorder as a service on the robot host: opens the robot, waits to be asked, and records what it is asked for.

Who drives it is on the bus; the bus may be away, the recorder goes on, and listens again when it is back.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, suppress

from services.recorder.order import Order
from services.recorder.recording import Recording
from services.recorder.remote import endpoints, robot_token
from services.recorder.session import Key
from shared import logs
from shared.bus import Bus
from shared.connection import Connection
from shared.errors import BusUnavailable, Refused
from shared.permissions import RECORDER_SUBJECT, micro_name
from shared.registration import Identity, Registered
from shared.version import VERSION

_log = logs.logger("recorder")

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_ANSWER_TIMEOUT_S = 5.0


class LogConsole:
    """A console that nobody sits at: what is said goes to the log, keys come over the bus."""

    def say(self, text: str) -> None:
        """Log what a person would hear."""
        _log.info("recorder.said", notice=text)

    def tell(self, text: str) -> None:
        """Log what a person would read."""
        _log.info("recorder.told", notice=text)

    def show(self, text: str) -> None:
        """Leave out what only a moving line can show; ``status`` has it."""

    async def key(self) -> Key:
        """Wait for ever."""
        nobody: asyncio.Future[Key] = asyncio.get_running_loop().create_future()
        return await nobody


async def serve(order: Order, *, stopping: asyncio.Event, stack: AsyncExitStack) -> dict[str, int]:
    """Record what is asked for until stopped, and return how many episodes were kept.

    What has not gone out by then waits on the disk for the next start.

    Raises:
        EpisodeflowError: the robot, a camera or the dataset is not what the options say, or another recorder has the robot's name.
    """
    recording = Recording(order, LogConsole())
    listening = asyncio.create_task(_listen(order, recording, stack))
    listening.add_done_callback(lambda task: None if task.cancelled() or task.exception() is None else stopping.set())
    try:
        await recording.run(stopping, stopping)
    finally:
        listening.cancel()
        await asyncio.wait({listening})
    if not listening.cancelled():
        listening.result()
    return {"kept": len(recording.kept)}


async def _listen(order: Order, recording: Recording, stack: AsyncExitStack) -> None:
    """Register on the bus as soon as it answers; from then on the connection comes back by itself."""
    robot = order.options.robot.id or order.options.robot.type
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            bus = await Bus.connect(order.loaded.storage.nats, name=f"recorder-{robot_token(robot)}")
        except BusUnavailable as error:
            _log.warning("recorder.unheard", error=str(error), delay_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        else:
            await stack.enter_async_context(bus)
            await _check_name(bus.connection, robot)
            registered = await _registered(bus.connection, recording, robot)
            stack.push_async_callback(registered.end)
            return


async def _check_name(connection: Connection, robot: str) -> None:
    """Refuse a name that another recorder has: one request would start both robots."""
    subject = f"{RECORDER_SUBJECT}.{robot_token(robot)}.status"
    with suppress(BusUnavailable):
        await connection.ask(subject, b"", timeout_s=_ANSWER_TIMEOUT_S)
        raise Refused(f"another recorder answers on {subject}: end it, or give this robot another --robot.id")


async def _registered(connection: Connection, recording: Recording, robot: str) -> Registered:
    identity = Identity(
        name=micro_name("recorder"),
        version=VERSION,
        description=f"episodeflow recorder of the robot {robot}",
        metadata={"host": socket.gethostname(), "robot": robot_token(robot)},
    )
    return await connection.register(identity, endpoints(recording, robot))
