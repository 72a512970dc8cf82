"""``/healthz``, ``/livez`` and ``/metrics`` over real HTTP."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from cli.servers import free_port
from shared.config import MetricsConfig
from shared.errors import BadConfig
from shared.health import HealthServer, LoopClock, health
from shared.metrics import Metrics


async def asked(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def server(port: int | None, *, is_bus_connected: bool = True, metrics: Metrics | None = None) -> HealthServer:
    config = MetricsConfig(port=port)
    return HealthServer(config, service="converter", metrics=metrics or Metrics("converter"), is_bus_connected=lambda: is_bus_connected)


def test_everything_well_is_healthy_without_problems() -> None:
    assert health("converter", is_bus_connected=True, loop_lag_s=0.01).problems == ()


@pytest.mark.parametrize(
    ("state", "sentence"),
    [({"is_bus_connected": False, "loop_lag_s": 0.0}, "NATS is away"), ({"is_bus_connected": True, "loop_lag_s": 7.0}, "hung for 7.0 s")],
)
def test_each_problem_has_its_sentence(state: dict[str, Any], sentence: str) -> None:
    found = health("converter", **state)

    assert not found.is_healthy
    assert [sentence in problem for problem in found.problems] == [True]


async def test_connected_service_answers_200_and_a_cut_off_one_503_with_the_reason() -> None:
    ports = free_port(), free_port()
    async with server(ports[0]), server(ports[1], is_bus_connected=False):
        good, bad = await asked(ports[0], "/healthz"), await asked(ports[1], "/healthz")
        life = await asked(ports[1], "/livez")

    assert good[0] == 200
    assert '"is_healthy":true' in good[1]
    assert bad[0] == 503
    assert "NATS is away" in bad[1]
    assert life[0] == 200


async def test_metrics_are_served_as_prometheus_reads_them() -> None:
    metrics, port = Metrics("converter", version="1.2.3"), free_port()
    metrics.begun(attempt=1)
    async with server(port, metrics=metrics):
        status, text = await asked(port, "/metrics")

    assert status == 200
    assert 'episodeflow_in_flight{stage="converter"} 1.0' in text
    assert 'episodeflow_build_info{service="converter",version="1.2.3"} 1.0' in text
    assert "episodeflow_bus_connected 1.0" in text


@pytest.mark.parametrize("port", [0, None])
async def test_without_a_port_nothing_is_opened(port: int | None) -> None:
    async with server(port) as silent:
        assert silent.url is None


async def test_port_in_use_is_refused_with_its_key() -> None:
    port = free_port()
    async with server(port):
        with pytest.raises(BadConfig, match=r"metrics: port: .*expected a free port"):
            await server(port).__aenter__()


async def test_loop_that_hung_is_seen_by_its_clock() -> None:
    async with LoopClock() as clock:
        before_s = clock.lag_s
        await asyncio.sleep(0)  # its task begins
        time.sleep(0.8)  # noqa: ASYNC251 - the hang itself
        async with asyncio.timeout(10):
            while not clock.lag_s:  # noqa: ASYNC110 - the clock tells nobody
                await asyncio.sleep(0.05)

    assert before_s == 0
    assert clock.lag_s > 0.4
