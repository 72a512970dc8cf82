"""The one door to aiohttp's server: ``/metrics``, ``/healthz`` and ``/livez`` of a service.

Decides what healthy means. ``/healthz`` is 200 only while the bus is connected and the event loop turns: somebody who
sends work or waits for readiness asks it. ``/livez`` asks the loop alone: starting a service again does not bring NATS
back. A loop that hangs answers nobody; one that hung a moment ago says so.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from shared import logs
from shared.config import MetricsConfig
from shared.errors import BadConfig
from shared.metrics import CONTENT_TYPE, Metrics

_log = logs.logger("health")

_BEAT_S = 0.25
_LONGEST_LAG_S = 5.0
_REMEMBERED_BEATS = 40
"""A hang is told for ten seconds: whoever asks every few seconds sees it."""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What ``/healthz`` answers as JSON.

    Attributes:
        service: who answers.
        is_healthy: whether everything below is well.
        is_bus_connected: whether NATS is there.
        loop_lag_s: the longest the event loop was late within the last seconds.
        problems: one sentence for each thing that is wrong.
    """

    service: str
    is_healthy: bool
    is_bus_connected: bool
    loop_lag_s: float
    problems: tuple[str, ...]


def health(service: str, *, is_bus_connected: bool, loop_lag_s: float) -> Health:
    """Return the state of a service, with a sentence for each thing that is wrong."""
    problems = []
    if not is_bus_connected:
        problems.append("NATS is away: the service reconnects by itself; check the server and nats.servers")
    if loop_lag_s > _LONGEST_LAG_S:
        problems.append(f"the event loop hung for {loop_lag_s:.1f} s: heartbeats may have been lost; look for a busy or suspended host")
    return Health(
        service=service,
        is_healthy=not problems,
        is_bus_connected=is_bus_connected,
        loop_lag_s=round(loop_lag_s, 3),
        problems=tuple(problems),
    )


class LoopClock:
    """Measures how late the event loop turns; use it as a context."""

    def __init__(self) -> None:
        self._lags_s: list[float] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def lag_s(self) -> float:
        """The longest lag of the last seconds."""
        return max(self._lags_s, default=0.0)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _beat(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started_s = clock()
            await asyncio.sleep(_BEAT_S)
            self._lags_s = [*self._lags_s[1 - _REMEMBERED_BEATS :], max(0.0, clock() - started_s - _BEAT_S)]


class HealthServer:
    """Answers over HTTP while it is open; use it as a context.

    Args:
        config: where to listen; without a port it listens nowhere.
        service: who answers.
        metrics: what ``/metrics`` shows.
        is_bus_connected: asked at every request.

    Attributes:
        paths: what it answers.
        url: where it answers; None while it does not.
    """

    paths = ("/metrics", "/healthz", "/livez")

    def __init__(self, config: MetricsConfig, *, service: str, metrics: Metrics, is_bus_connected: Callable[[], bool]) -> None:
        self.url: str | None = None
        self._config = config
        self._service = service
        self._metrics = metrics
        self._is_bus_connected = is_bus_connected
        self._clock = LoopClock()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            BadConfig: the address cannot be listened on.
        """
        if self._config.port:
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(self._clock)
                await self._listen(stack, self._config.port)
                self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._stack.aclose()

    async def _listen(self, stack: contextlib.AsyncExitStack, port: int) -> None:
        application = web.Application()
        handlers = (self._answer_metrics, self._answer_health, self._answer_life)
        application.add_routes([web.get(path, handler) for path, handler in zip(self.paths, handlers, strict=True)])
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, self._config.host, port).start()
        except OSError as error:
            place = f"{self._config.host}:{port}"
            raise BadConfig("metrics", "port", f"{error} (found {place}, expected a free port, or none to switch it off)") from error
        self.url = f"http://{self._config.host}:{port}"
        _log.info("health.listening", url=self.url)

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        self._metrics.set_connected(is_connected=self._is_bus_connected())
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _answer_health(self, _request: web.Request) -> web.Response:
        return _answer(health(self._service, is_bus_connected=self._is_bus_connected(), loop_lag_s=self._clock.lag_s))

    async def _answer_life(self, _request: web.Request) -> web.Response:
        return web.json_response({"service": self._service, "is_alive": True})


def _answer(found: Health) -> web.Response:
    status = 200 if found.is_healthy else 503
    return web.Response(status=status, body=msgspec.json.encode(found), content_type="application/json")
