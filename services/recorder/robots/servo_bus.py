"""The servo bus: questions and answers over a serial port, one at a time. The door to pyserial-asyncio.

Decides when to ask again and what to say when nobody answers. Knows registers, no calibration and no unit.

One owner at a time: a lock in this process, an exclusive lock on the port against others. A question that ended without
all its answers (time-out, cancellation) leaves the line to late replies until its deadline, and one margin more after a
time-out: what comes then is counted as stale and thrown away, so that no answer is taken for that of a later question. An
answer that came whole but damaged ends its question at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import serial
import serial_asyncio

from services.recorder.robots import transactions
from services.recorder.robots.errors import RobotRefused, RobotUnreachable
from services.recorder.robots.packets import Packet, alarm_names
from services.recorder.robots.registers import BAUD_RATE_HZ, Register
from services.recorder.robots.transactions import Transaction

_Question = Callable[..., Transaction]
_SETTLING_S = 0.002
"""After a damaged answer: noise may have added a byte that counted for one still on its way through a USB adapter."""


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the bus is: baud rate, time for the host and its USB adapter, for an echo, how often to ask again."""

    baud_rate_hz: int = BAUD_RATE_HZ
    margin_s: float = 0.05
    echo_margin_s: float = 0.05
    num_retries: int = 2


class BusCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What happened on the bus since it was opened."""

    num_questions: int = 0
    num_retries: int = 0
    num_failures: int = 0
    num_stale_bytes: int = 0
    num_damaged_bytes: int = 0


class SyncSample(msgspec.Struct, frozen=True):
    """One register of several servos: value by id, and the middle of question and last answer (s, the loop's clock)."""

    value_by_id: dict[int, int]
    time_s: float


class ServoBus:
    """An open serial port with servos behind it; make one with ``open``.

    Args:
        port: device path, for messages.
        joints: name by servo id, for messages.
        settings: patience.
        transport: of pyserial-asyncio.
        line: its protocol.
    """

    def __init__(self, *, port: str, joints: Mapping[int, str], settings: BusSettings, transport: Any, line: _Line) -> None:
        self.port = port
        self._joints = joints
        self._settings = settings
        self._transport = transport
        self._line = line
        self._lock = asyncio.Lock()
        self._is_echoed = False
        self._quiet_at_s = self._middle_s = 0.0
        self._num_questions = self._num_retries = self._num_failures = self._num_damaged_bytes = 0

    @classmethod
    async def open(cls, port: str, *, joints: Mapping[int, str], settings: BusSettings | None = None) -> ServoBus:
        """Open the port and find out whether the line echoes.

        Args:
            port: device path.
            joints: name by servo id, for messages.
            settings: patience; None: the defaults.

        Raises:
            RobotUnreachable: there is no such port.
            RobotRefused: it is in use, forbidden, or no serial port.
        """
        settings = settings or BusSettings()
        try:
            transport, line = await serial_asyncio.create_serial_connection(
                asyncio.get_running_loop(), _Line, port, baudrate=settings.baud_rate_hz, exclusive=True
            )
        except (serial.SerialException, ValueError, OSError) as error:
            raise _opening_error(port, error) from error
        with suppress(ValueError, NotImplementedError, OSError):  # FTDI waits 16 ms for more bytes unless told not to
            transport.serial.set_low_latency_mode(True)
        bus = cls(port=port, joints=joints, settings=settings, transport=transport, line=line)
        try:
            bus._is_echoed = await bus._exchange(transactions.echo_probe(), margin_s=settings.echo_margin_s)
            bus._quiet_at_s = 0.0  # nobody was asked, so nobody answers late
        except BaseException:
            await bus.close()
            raise
        return bus

    @property
    def is_open(self) -> bool:
        """Whether the port is still there."""
        return not self._line.closed.done() and not self._transport.is_closing()

    @property
    def counts(self) -> BusCounts:
        """What happened since the port was opened."""
        return BusCounts(
            num_questions=self._num_questions,
            num_retries=self._num_retries,
            num_failures=self._num_failures,
            num_stale_bytes=self._line.num_stale_bytes,
            num_damaged_bytes=self._num_damaged_bytes,
        )

    async def is_there(self, servo_id: int) -> bool:
        """Return whether a servo answers a ping.

        Raises:
            RobotUnreachable: the port is gone.
        """
        return (await self._answered(partial(transactions.ping, servo_id))).is_finished

    async def read(self, servo_id: int, register: Register) -> int:
        """Return one register of one servo.

        Raises:
            RobotUnreachable: no answer, the port is gone, or the servo reports an alarm.
        """
        reply = await self._asked_one(servo_id, f"reading {register.name}", partial(transactions.read, servo_id, register))
        self._check_alarms(reply, register.name)
        return register.decoded(reply.parameters)

    async def write(
        self, servo_id: int, register: Register, value: int, *, num_retries: int | None = None, is_alarm_ignored: bool = False
    ) -> None:
        """Set one register of one servo and wait until it confirms.

        Args:
            servo_id: the servo.
            register: the register.
            value: within the register's range.
            num_retries: None: as the settings say.
            is_alarm_ignored: a servo that reports an alarm has obeyed all the same; ending the torque needs no more.

        Raises:
            RobotUnreachable: no answer, the port is gone, or the servo reports an alarm.
        """
        question = partial(transactions.write, servo_id, register, value)
        reply = await self._asked_one(servo_id, f"writing {register.name}", question, num_retries=num_retries)
        if not is_alarm_ignored:
            self._check_alarms(reply, register.name)

    async def sync_read(self, servo_ids: Sequence[int], register: Register, *, num_retries: int | None = None) -> dict[int, int]:
        """Return one register of several servos in one question; alarms are ignored, as LeRobot does.

        Raises:
            RobotUnreachable: a servo did not answer, or the port is gone.
        """
        return (await self.sync_sample(servo_ids, register, num_retries=num_retries)).value_by_id

    async def sync_sample(
        self, servo_ids: Sequence[int], register: Register, *, num_retries: int | None = None, margin_s: float | None = None
    ) -> SyncSample:
        """Do as ``sync_read`` does and say when it was.

        Args:
            servo_ids: who is asked.
            register: the register.
            num_retries: None: as the settings say.
            margin_s: patience with the host and its adapter; None: as the settings say.

        Raises:
            RobotUnreachable: a servo did not answer, or the port is gone.
        """
        question = partial(transactions.sync_read, servo_ids, register)
        transaction = await self._answered(question, num_retries=num_retries, margin_s=margin_s)
        if not transaction.is_finished:
            raise self._silence(transaction, f"reading {register.name}")
        values = {servo_id: register.decoded(transaction.replies[servo_id].parameters) for servo_id in servo_ids}
        return SyncSample(values, self._middle_s)  # nobody else was asked meanwhile: this runs on without a pause

    async def sync_write(self, values: Mapping[int, int], register: Register) -> None:
        """Set one register of several servos (value by id) in one packet that nobody confirms.

        Raises:
            RobotUnreachable: the port is gone.
        """
        await self._answered(partial(transactions.sync_write, values, register), num_retries=0)

    def send_unheard(self, data: bytes) -> None:
        """Write bytes at once, whatever is being asked; nobody learns whether they arrive. Never raises.

        The port's own way would wait for a full buffer.
        """
        if self.is_open:
            with suppress(OSError):
                os.write(self._transport.serial.fileno(), data)

    async def close(self) -> None:
        """Close the port; waits until it is."""
        self._transport.close()
        await asyncio.shield(self._line.closed)

    def named(self, servo_ids: Sequence[int]) -> str:
        """Return servos as a sentence names them: ``servo 3 (elbow_flex)``."""
        return ", ".join(f"servo {servo_id} ({self._joints.get(servo_id, 'no joint of this arm')})" for servo_id in servo_ids)

    async def _asked_one(self, servo_id: int, doing: str, question: _Question, *, num_retries: int | None = None) -> Packet:
        transaction = await self._answered(question, num_retries=num_retries)
        if not transaction.is_finished:
            raise self._silence(transaction, doing)
        return transaction.replies[servo_id]

    async def _answered(self, question: _Question, *, num_retries: int | None = None, margin_s: float | None = None) -> Transaction:
        """Ask until everybody answered or the tries are used up; the transaction says which."""
        num_tries = 1 + (self._settings.num_retries if num_retries is None else num_retries)
        margin_s = self._settings.margin_s if margin_s is None else margin_s
        async with self._lock:
            self._num_questions += 1
            for num_done in range(num_tries):
                self._num_retries += num_done > 0
                transaction = question(is_echoed=self._is_echoed)
                if await self._exchange(transaction, margin_s=margin_s):
                    return transaction
            self._num_failures += 1
            return transaction

    async def _exchange(self, transaction: Transaction, *, margin_s: float) -> bool:
        """Send one question and wait for its answers until its deadline."""
        loop = asyncio.get_running_loop()
        if self._quiet_at_s > loop.time():
            await asyncio.sleep(self._quiet_at_s - loop.time())
        finished = self._line.begin(transaction)
        sent_s = loop.time()
        deadline_s = sent_s + transaction.timeout_s(baud_rate_hz=self._settings.baud_rate_hz, margin_s=margin_s)
        expiry = loop.call_at(deadline_s, _expire, finished)
        self._quiet_at_s = deadline_s
        try:
            self._send(transaction.to_send)
            is_finished = transaction.is_finished or await finished
            self._quiet_at_s = self._quiet_after(transaction, deadline_s + margin_s)
            self._middle_s = (sent_s + self._line.finished_s) / 2
        finally:
            expiry.cancel()
            self._line.end()
            self._num_damaged_bytes += transaction.num_damaged_bytes
        if self._line.closed.done():
            raise self._gone()
        return is_finished

    def _quiet_after(self, transaction: Transaction, late_s: float) -> float:
        """Return until when the line is left to late bytes: not at all after an answer, shortly after a damaged one."""
        if transaction.is_finished:
            return 0.0
        return min(late_s, asyncio.get_running_loop().time() + _SETTLING_S) if transaction.is_spoilt else late_s

    def _send(self, data: bytes) -> None:
        """Write at once; the transport's own way costs a turn of the loop, half of the time of a simulated answer."""
        if not self.is_open:
            raise self._gone()
        try:
            num_written = self._transport.serial.write(data) or 0
        except (serial.SerialException, OSError) as error:
            self._transport.close()
            raise self._gone() from error
        if num_written < len(data):
            self._transport.write(data[num_written:])

    def _check_alarms(self, reply: Packet, register: str) -> None:
        if reply.code:
            raise RobotUnreachable(
                f"{self.port}: {self.named([reply.servo_id])} reports {alarm_names(reply.code)} at {register}, expected no alarm: "
                "relieve the joint, let it cool down, check the supply's voltage, then switch the arm off and on"
            )

    def _silence(self, transaction: Transaction, doing: str) -> RobotUnreachable:
        found = f"{transaction.num_damaged_bytes} damaged bytes came back" if transaction.num_damaged_bytes else "nothing came back"
        return RobotUnreachable(
            f"{self.port}: {self.named(transaction.missing_ids)} did not answer when {doing} ({found}): "
            "check the cable to it and the power supply of the arm"
        )

    def _gone(self) -> RobotUnreachable:
        return RobotUnreachable(f"{self.port}: the port is gone: it was unplugged or closed; plug the arm's USB cable in and start again")


class _Line(asyncio.Protocol):
    """Hands received bytes to the question that is open; what nobody waits for is counted and thrown away."""

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.num_stale_bytes = 0
        self.finished_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._transaction: Transaction | None = None
        self._finished: asyncio.Future[bool] | None = None

    def begin(self, transaction: Transaction) -> asyncio.Future[bool]:
        self._transaction = transaction
        self._finished = asyncio.get_running_loop().create_future()
        return self._finished

    def end(self) -> None:
        self._transaction = self._finished = None

    def data_received(self, data: bytes) -> None:
        if self._transaction is None:
            self.num_stale_bytes += len(data)
            return
        is_finished = self._transaction.receive(data)
        is_over = is_finished or self._transaction.is_spoilt
        if is_over and self._finished is not None and not self._finished.done():
            self.finished_s = self._loop.time()
            self._finished.set_result(is_finished)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if not self.closed.done():
            self.closed.set_result(None)
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(False)


def _expire(finished: asyncio.Future[bool]) -> None:
    if not finished.done():
        finished.set_result(False)


def _opening_error(port: str, error: Exception) -> RobotRefused | RobotUnreachable:
    number = getattr(error, "errno", None)
    if number in {errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO}:
        return RobotUnreachable(
            f"{port}: there is no such port: plug in the arm's USB cable and its power, then look with `ls /dev/serial/by-id /dev/tty*`"
        )
    if number in {errno.EAGAIN, errno.EBUSY}:
        return RobotRefused(
            f"{port}: another program has the port, expected to be the only one on the bus: end it (`fuser {port}` says which it is)"
        )
    if number in {errno.EACCES, errno.EPERM}:
        return RobotRefused(f"{port}: not allowed to open it: `sudo usermod -a -G dialout $USER`, then log in again")
    return RobotRefused(
        f"{port}: cannot be opened as a serial port ({' '.join(str(error).split())}): expected a device such as /dev/ttyACM0"
    )
