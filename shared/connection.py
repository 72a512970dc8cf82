"""The one door to nats-py: a connection that asks, sends and subscribes, in our own words and errors.

Theory of operation. nats-py reconnects by itself, but three things it leaves to us:

- A request in flight when the connection breaks waits for its whole timeout. Here it ends at once.
- A denied permission raises nowhere; the reason comes through the error callback. Here whoever waits for an
  answer to that subject gets ``Refused``.
- What is sent while the connection is away is buffered and sent later. Here nothing that asks is sent then.

All three go through ``watching``: everyone who waits for the server leaves a callback there.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from shared import logs
from shared.config import NatsConfig
from shared.errors import BadConfig, BadEvent, BusUnavailable, EpisodeflowError, Refused
from shared.permissions import inbox_prefix
from shared.registration import Endpoint, Identity, Registered, registered
from shared.tls import tls_context

_log = logs.logger("connection")

_RECONNECT_PAUSE_S = 0.25
_WITHDRAW_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_S = 3.0
_DENIAL = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)

Watcher = Callable[[EpisodeflowError], None]


class NobodyListens(BusUnavailable):
    """The server answers that nobody serves the subject: no such stream or consumer, or not yet."""


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """What arrived at a subscription; ``status`` is the server's code in a message that only reports (404, 408, 409, 503)."""

    subject: str
    reply: str
    body: bytes
    status: int | None = None


class _SecureClient(Client):
    """Gives its password to no server without TLS: the library itself would, if such a server answers in place of ours."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise nats.errors.SecureConnWantedError
        return super()._connect_command()


class Connection:
    """A connection to NATS that reconnects for ever. Make it with ``Connection.open``; close it."""

    def __init__(self, config: NatsConfig, *, name: str) -> None:
        self.addresses = ", ".join(re.sub(r"//[^/@]*@", "//", server) for server in config.servers)
        self._config = config
        self._name = name
        # Users of the table of permissions have an inbox of their own; a user who may do everything does not mind.
        self._inbox_prefix = config.inbox_prefix or (inbox_prefix(config.user) if config.user else None)
        self._client = _SecureClient() if config.tls or any(server.startswith("tls://") for server in config.servers) else Client()
        self._watchers: set[tuple[str, Watcher]] = set()
        # Set while connected, and for ever once closed: nobody may wait for a connection that cannot come back.
        self._connected_or_closed = asyncio.Event()
        self._refused: asyncio.Future[Refused] = asyncio.get_running_loop().create_future()
        self._inbox_denial: Refused | None = None
        self._last_error = "no answer"
        self._closed = False

    @classmethod
    async def open(cls, config: NatsConfig, *, name: str) -> Self:
        """Return a connection that is up.

        Raises:
            BusUnavailable: nobody answered within ``connect_timeout_s``.
            Refused: the server does not accept the credentials.
            BadConfig: a server address or a certificate file is wrong.
        """
        connection = cls(config, name=name)
        connecting = asyncio.create_task(connection._connect(tls_context(config)))
        first: set[asyncio.Future[Any]] = {connecting, connection._refused}
        try:
            await asyncio.wait(first, timeout=config.connect_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            connection._judge(connecting)
        except BaseException:
            connecting.cancel()
            await asyncio.wait({connecting})
            await connection.close()
            raise
        connection._connected_or_closed.set()
        return connection

    @property
    def is_connected(self) -> bool:
        """Whether the server is there right now."""
        return self._connected_or_closed.is_set() and not self._closed

    async def wait_connected(self) -> None:
        """Wait until the server is there.

        Raises:
            BusUnavailable: the connection was closed for good.
        """
        await self._connected_or_closed.wait()
        self.check_open()

    def check_open(self) -> None:
        """Raise ``BusUnavailable`` if the connection was closed for good, by us or by the server's verdict."""
        if self._closed:
            raise self._closed_error()

    async def close(self) -> None:
        """Send what is left to send and close; may be called twice."""
        was_connected, self._closed = self.is_connected, True
        self._connected_or_closed.set()
        try:
            if was_connected:
                await self._client.flush(timeout=1)
        except (nats.errors.Error, OSError) as error:
            _log.warning("bus.unflushed", error=str(error))
        finally:
            if self._client.options:  # else it was never asked to connect, and its close would fail
                with suppress(nats.errors.Error, OSError):  # a server that went away meanwhile needs no farewell
                    await asyncio.wait_for(self._client.close(), _CLOSE_TIMEOUT_S)

    async def ask(self, subject: str, body: bytes, *, timeout_s: float, headers: dict[str, str] | None = None) -> bytes:
        """Return the answer to one request.

        Raises:
            NobodyListens: nobody serves the subject.
            BusUnavailable: not connected, the connection broke, or no answer within ``timeout_s``.
            Refused: no permission for the subject, or for the inbox of the answer.
            BadEvent: the body is larger than the server takes.
        """
        if not self.is_connected:
            raise self._closed_error() if self._closed else BusUnavailable(f"{self.addresses} is away: {self._last_error}")
        if self._inbox_denial:
            raise self._inbox_denial
        asking = asyncio.ensure_future(self._client.request(subject, body, timeout=timeout_s, headers=headers))
        problems: list[EpisodeflowError] = []

        def give_up(problem: EpisodeflowError) -> None:
            problems.append(problem)
            asking.cancel()

        num_cancels = _num_cancels()
        with self.watching(subject, give_up):
            try:
                answer = (await asking).data
            except (nats.errors.Error, OSError) as error:
                raise self._translated(error, subject, len(body)) from error
            except asyncio.CancelledError:
                if problems and not _num_cancels():
                    raise problems[0] from None
                raise
            finally:
                asking.cancel()
        if _num_cancels() > num_cancels:
            # The client's wait swallows a cancellation that meets the answer; the caller's task must not go on.
            raise asyncio.CancelledError
        return answer

    async def send(self, subject: str, body: bytes, *, reply: str = "") -> None:
        """Send and do not wait; what is sent while the server is away goes out when it is back.

        Raises:
            BusUnavailable: the connection is closed, or too much waits already.
        """
        try:
            await self._client.publish(subject, body, reply=reply)
        except (nats.errors.Error, OSError) as error:
            raise self._translated(error, subject, len(body)) from error

    def new_inbox(self) -> str:
        """Return a subject for answers that nobody else has."""
        return self._client.new_inbox()

    async def subscribe(self, subject: str, take: Callable[[Incoming], None]) -> Subscribed:
        """Hand everything that arrives on a subject (pattern) to ``take``.

        Raises:
            BusUnavailable: the connection is closed.
        """

        async def callback(message: Msg) -> None:
            status = (message.headers or {}).get("Status", "") if not message.data and not message.reply else ""
            take(
                Incoming(subject=message.subject, reply=message.reply, body=message.data, status=int(status) if status.isdigit() else None)
            )

        try:
            subscription = await self._client.subscribe(subject, cb=callback)
        except (nats.errors.Error, OSError) as error:
            raise self._translated(error, subject, 0) from error
        return Subscribed(self, subscription)

    async def register(self, identity: Identity, endpoints: Sequence[Endpoint]) -> Registered:
        """Register as a service in the micro-services protocol.

        Raises:
            BusUnavailable: the connection is closed.
        """
        try:
            return await registered(self._client, identity, endpoints)
        except (nats.errors.Error, OSError) as error:
            raise self._translated(error, endpoints[0].subject, 0) from error

    @contextmanager
    def watching(self, subject: str, watcher: Watcher) -> Iterator[None]:
        """Call ``watcher`` inside the block when the connection breaks (BusUnavailable) or ``subject`` is denied (Refused)."""
        entry = (subject, watcher)
        self._watchers.add(entry)
        try:
            yield
        finally:
            self._watchers.discard(entry)

    # --- inside -------------------------------------------------------------------------------------------

    async def _connect(self, tls: ssl.SSLContext | None) -> None:
        config = self._config
        options: dict[str, Any] = {"inbox_prefix": self._inbox_prefix} if self._inbox_prefix else {}
        try:
            await self._client.connect(
                servers=list(config.servers),
                name=self._name,
                user=config.user,
                password=config.password.reveal() if config.password else None,
                tls=tls,
                connect_timeout=max(1, int(config.connect_timeout_s)),
                reconnect_time_wait=_RECONNECT_PAUSE_S,  # type: ignore[arg-type]  # it only sleeps that long
                max_reconnect_attempts=-1,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                **options,
            )
        except (nats.errors.Error, ValueError) as error:
            raise BadConfig("nats", "servers", f"{error} (found {self.addresses}, expected nats://host:4222)") from error

    def _judge(self, connecting: asyncio.Task[None]) -> None:
        if not connecting.done():
            raise self._refused.result() if self._refused.done() else self._unanswered()
        connecting.result()

    def _refusal(self) -> Refused:
        if "certificate" in self._last_error.casefold():
            return Refused(
                f"{self.addresses} is not who nats.tls.ca_file vouches for: check that file and the address ({self._last_error})"
            )
        if "secure" in self._last_error:
            return Refused(
                f"{self.addresses} offers no TLS, which nats.tls wants: check nats.servers, or set tls in the server's configuration"
            )
        return Refused(
            f"{self.addresses} refuses the user {self._config.user!r}: check nats.user and nats.password "
            f"(NATS_USER, NATS_PASSWORD) ({self._last_error})"
        )

    def _unanswered(self) -> BusUnavailable:
        return BusUnavailable(
            f"nobody answers as NATS at {self.addresses} within {self._config.connect_timeout_s:g} s ({self._last_error}): "
            "check nats.servers and that the server runs"
        )

    def _closed_error(self) -> BusUnavailable:
        return BusUnavailable(f"the connection to {self.addresses} is closed: {self._last_error}")

    def _translated(self, error: Exception, subject: str, num_bytes: int) -> EpisodeflowError:
        if isinstance(error, nats.errors.MaxPayloadError):
            return BadEvent(f"{subject}: {num_bytes} bytes are more than {self.addresses} takes: {self._client.max_payload}")
        if isinstance(error, nats.errors.NoRespondersError):
            return NobodyListens(f"nobody serves {subject} at {self.addresses}")
        return BusUnavailable(f"{subject} at {self.addresses}: {error or type(error).__name__}")

    def _tell(self, error: EpisodeflowError, *, subject: str | None = None) -> None:
        for watched, watcher in list(self._watchers):
            if subject is None or watched.casefold() == subject.casefold():
                watcher(error)

    async def _on_error(self, error: Exception) -> None:
        self._last_error = str(error) or type(error).__name__
        denial = _DENIAL.search(self._last_error)
        if denial:
            self._on_denial(*denial.groups())
        elif _is_refusal(self._last_error) and not self._refused.done():
            self._refused.set_result(self._refusal())
        elif not self._closed:
            _log.debug("bus.error", error=self._last_error, error_type=type(error).__name__)

    def _on_denial(self, deed: str, subject: str) -> None:
        # The client hands the server's words on in lower case; whoever waits knows how the subject is really written.
        subject = next((watched for watched, _ in self._watchers if watched.casefold() == subject.casefold()), subject)
        refusal = Refused(f"the user {self._config.user!r} has no permission for {deed} on {subject}: see config/nats")
        if deed.casefold() == "subscription" and subject.casefold().startswith((self._inbox_prefix or "_INBOX").casefold()):
            # Without its inbox nothing that asks can be answered; the server says so only once.
            self._inbox_denial = Refused(f"{refusal} and nats.inbox_prefix")
            self._tell(self._inbox_denial)
        else:
            if not any(watched == subject for watched, _ in self._watchers):
                _log.warning("bus.denied", subject=subject, error=str(refusal))
            self._tell(refusal, subject=subject)

    async def _on_disconnected(self) -> None:
        if self._closed:
            return
        self._connected_or_closed.clear()
        self._tell(BusUnavailable(f"the connection to {self.addresses} broke"))
        _log.warning("bus.disconnected", servers=self.addresses)

    async def _on_reconnected(self) -> None:
        self._connected_or_closed.set()
        _log.info("bus.reconnected", servers=self.addresses)

    async def _on_closed(self) -> None:
        self._closed = True
        self._tell(self._closed_error())
        self._connected_or_closed.set()


class Subscribed:
    """A subscription that can be ended with or without waiting for what is under way."""

    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._subscription = subscription

    async def end(self, *, drain: bool) -> None:
        """End it; with ``drain``, first hand over everything the server had already sent."""
        try:
            if drain and self._connection.is_connected:
                async with asyncio.timeout(_WITHDRAW_TIMEOUT_S):
                    await self._subscription.drain()  # type: ignore[no-untyped-call]
            else:
                await self._subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            # The connection broke meanwhile: the server forgot the subscription with it.
            _log.debug("bus.unsubscribed", error=str(error) or type(error).__name__)


def _num_cancels() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task else 0


def _is_refusal(message: str) -> bool:
    return any(sign in message.casefold() for sign in ("authorization", "authentication", "certificate verify failed", "secure connection"))
