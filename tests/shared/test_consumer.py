"""The runtime of a service, against a real nats-server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from cli.servers import NatsServer, free_port
from shared import events
from shared.bus import Bus
from shared.config import RedisConfig
from shared.consumer import Consumer, Counts, Delivery, Work
from shared.errors import BadRaw, BusUnavailable, Refused, StoreUnavailable, WorkerCrashed
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady
from shared.ledger import Ledger
from shared.provision import converter_durable, provision, provision_plan
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for

Handler = Callable[[Delivery[EpisodeReady]], Awaitable[EpisodeReady | None]]


def work(source: str, handler: Handler, **more: Any) -> Work[EpisodeReady]:
    settings = {"durables": (converter_durable(source).name,), "max_attempts": 3, "grace_s": 5.0} | more
    return Work(stage="converter", event_type=EpisodeReady, handler=handler, **settings)


@asynccontextmanager
async def serving(bus: Bus, wanted: Work[EpisodeReady]) -> AsyncIterator[Consumer[EpisodeReady]]:
    consumer, stopping = Consumer(bus, wanted), asyncio.Event()
    running = asyncio.create_task(consumer.run(stopping))
    try:
        yield consumer
    finally:
        stopping.set()
        await running


async def until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in another process or task
            await asyncio.sleep(0.005)


async def publish(bus: Bus, source: str, *episode_ids: str) -> None:
    for episode_id in episode_ids:
        await bus.publish(EpisodeReady(episode_id=episode_id, source=source), message_id=f"ready:{source}:{episode_id}")


async def publish_raw(bus: Bus, subject: str, body: bytes) -> None:
    await bus.connection.ask(subject, body, timeout_s=5)


async def only_failure(bus: Bus, source: str) -> EpisodeFailed:
    subject = f"episode.failed.{source}"
    stored = await bus.stored(1, next_on=subject)
    assert stored is not None
    assert await bus.stored(stored.seq + 1, next_on=subject) is None
    return events.decode(stored.body, EpisodeFailed)


async def provisioned(server: NatsServer, connect: BusFactory, *sources: str, ack_wait_s: float = 60.0) -> Bus:
    config = storage_for(server, *sources, ack_wait_s=ack_wait_s)
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    return bus


async def test_handled_message_is_acknowledged_after_its_next_event_is_stored(bus: Bus, source: str) -> None:
    async def convert(delivery: Delivery[EpisodeReady]) -> EpisodeReady:
        fields = {name: getattr(delivery.event, name) for name in EpisodeReady.__struct_fields__}
        return EpisodeConverted(**fields, spool=source, path="p", frames=1, duration_s=0.1, num_bytes=1, digest="sha256:0")

    await publish(bus, source, "e1")
    async with serving(bus, work(source, convert)) as consumer:
        await until(lambda: consumer.counts.done == 1)

    stored = await bus.stored(1, next_on=f"episode.converted.{source}")
    info = await bus.consumer_info(converter_durable(source).name)
    assert stored is not None
    assert events.decode(stored.body, EpisodeConverted).episode_id == "e1"
    assert info is not None
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_delivery_tells_sequence_attempt_subject_and_time(bus: Bus, source: str) -> None:
    deliveries: list[Delivery[EpisodeReady]] = []

    async def note(delivery: Delivery[EpisodeReady]) -> None:
        deliveries.append(delivery)

    receipt = await bus.publish(EpisodeReady(episode_id="e1", source=source), message_id=f"ready:{source}")
    async with serving(bus, work(source, note)):
        await until(lambda: bool(deliveries))

    assert (deliveries[0].seq, deliveries[0].attempt, deliveries[0].subject) == (receipt.seq, 1, f"episode.ready.{source}")
    assert deliveries[0].timestamp_s > 1.7e9


async def test_rejected_episode_fails_at_once_with_its_sentence(bus: Bus, source: str) -> None:
    told: list[EpisodeFailed] = []

    async def reject(_: Delivery[EpisodeReady]) -> None:
        raise BadRaw("joints/left.parquet", "has no column position")

    async def note(failed: EpisodeFailed, _: int) -> None:
        told.append(failed)

    await publish(bus, source, "e1")
    async with serving(bus, work(source, reject, on_failed=note)) as consumer:
        await until(lambda: bool(told) and consumer.counts.failed == 1)

    failed = await only_failure(bus, source)
    assert (failed.reason, failed.error_type, failed.attempts, failed.stage) == ("rejected", "BadRaw", 1, "converter")
    assert failed.error == "joints/left.parquet: has no column position"
    assert told == [failed]


async def test_failure_published_again_unchanged_retries_the_episode(bus: Bus, source: str) -> None:
    seen: list[EpisodeReady] = []

    async def reject_once(delivery: Delivery[EpisodeReady]) -> None:
        seen.append(delivery.event)
        if len(seen) == 1:
            raise BadRaw("x", "is broken")

    event = EpisodeReady(episode_id="e1", source=source, strategy="window", task="pick", config_overrides={"video.fps": 20})
    await bus.publish(event, message_id=f"ready:{source}")
    async with serving(bus, work(source, reject_once)) as consumer:
        await until(lambda: consumer.counts.failed == 1)
        stored = await bus.stored(1, next_on=f"episode.failed.{source}")
        assert stored is not None
        await publish_raw(bus, f"episode.ready.{source}", stored.body)
        await until(lambda: consumer.counts.done == 1)

    assert seen == [event, event]


async def test_retryable_error_comes_again_after_its_delay_until_attempts_are_used_up(bus: Bus, source: str) -> None:
    times_s: list[float] = []

    async def fail(_: Delivery[EpisodeReady]) -> None:
        times_s.append(asyncio.get_running_loop().time())
        raise StoreUnavailable("the store answers 503")

    await publish(bus, source, "e1")
    async with serving(bus, work(source, fail, max_attempts=2, patience_s=0)) as consumer:
        await until(lambda: consumer.counts.failed == 1)

    failed = await only_failure(bus, source)
    assert (failed.reason, failed.attempts) == ("exhausted", 2)
    assert 0.9 < times_s[1] - times_s[0] < 3
    assert consumer.counts == Counts(retried=1, failed=1)


async def test_crashed_worker_at_the_last_attempt_fails_as_crashed(bus: Bus, source: str) -> None:
    async def crash(_: Delivery[EpisodeReady]) -> None:
        raise WorkerCrashed("signal 9")

    await publish(bus, source, "e1")
    async with serving(bus, work(source, crash, max_attempts=1)) as consumer:
        await until(lambda: consumer.counts.failed == 1)

    assert (await only_failure(bus, source)).reason == "crashed"


async def test_mistake_in_the_handler_is_one_episodes_failure_and_the_service_goes_on(bus: Bus, source: str) -> None:
    async def stumble(delivery: Delivery[EpisodeReady]) -> None:
        if delivery.event.episode_id == "bad":
            raise KeyError("frames")

    await publish(bus, source, "bad", "good")
    async with serving(bus, work(source, stumble, max_attempts=1)) as consumer:
        await until(lambda: consumer.counts == Counts(done=1, failed=1))

    assert (await only_failure(bus, source)).error_type == "KeyError"


async def test_message_beyond_its_attempts_fails_as_crashed_without_running(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect, "robot", ack_wait_s=0.3)
    runs: list[int] = []

    async def hang(delivery: Delivery[EpisodeReady]) -> None:
        runs.append(delivery.attempt)
        await asyncio.Event().wait()

    await publish(bus, "robot", "e1")
    for attempt in (1, 2):  # a worker that dies: no answer, no heartbeat
        dying = await connect(bus.config)
        running = asyncio.create_task(Consumer(dying, work("robot", hang)).run(asyncio.Event()))
        await until(lambda attempt=attempt: len(runs) == attempt)
        await dying.close()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    async with serving(bus, work("robot", hang, max_attempts=2)) as consumer:
        await until(lambda: consumer.counts.failed == 1)

    failed = await only_failure(bus, "robot")
    assert (failed.reason, failed.attempts, failed.error_type) == ("crashed", 3, "WorkerCrashed")
    assert runs == [1, 2]


async def test_deliveries_that_an_outage_ended_do_not_make_a_crash_of_the_next_one(
    bus: Bus, source: str, redis_config: RedisConfig
) -> None:
    attempts: list[int] = []

    async def suffer(delivery: Delivery[EpisodeReady]) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt <= 2:
            raise StoreUnavailable("the store answers 503")

    await publish(bus, source, "e1")
    async with Ledger(redis_config) as ledger, serving(bus, work(source, suffer, max_attempts=1, excuses=ledger)) as consumer:
        await until(lambda: consumer.counts.done == 1)

    assert attempts == [1, 2, 3]
    assert consumer.counts == Counts(done=1, retried=2)


async def test_without_the_memory_of_excuses_a_message_has_the_deliveries_of_an_outage_and_its_own(bus: Bus, source: str) -> None:
    async def crash(_: Delivery[EpisodeReady]) -> None:
        raise WorkerCrashed("signal 9")

    await publish(bus, source, "e1")
    nobody = RedisConfig(host="127.0.0.1", port=free_port())
    async with Ledger(nobody) as ledger, serving(bus, work(source, crash, max_attempts=2, patience_s=0, excuses=ledger)) as consumer:
        await until(lambda: consumer.counts.failed == 1)

    failed = await only_failure(bus, source)
    assert (failed.reason, failed.attempts) == ("crashed", 3)


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"[" * 100_000, b'{"episode_id": "../../etc", "source": "a b"}', b'"\xff\xfe"', b"{" + b'"k":1,' * 140_000],
    ids=["empty", "text", "deep", "path-trick", "not-utf8", "large"],
)
async def test_hostile_body_ends_as_a_failure_and_never_comes_again(private_nats: ServerFactory, connect: BusFactory, body: bytes) -> None:
    bus = await provisioned(await private_nats(), connect, "robot", ack_wait_s=0.5)
    await publish_raw(bus, "episode.ready.robot", body)
    await publish(bus, "robot", "good")
    seen: list[str] = []

    async def note(delivery: Delivery[EpisodeReady]) -> None:
        seen.append(delivery.event.episode_id)

    async with serving(bus, work("robot", note)) as consumer:
        await until(lambda: consumer.counts == Counts(done=1, failed=1))

    failed = await only_failure(bus, "unknown")
    info = await bus.consumer_info("converter-robot")
    assert (failed.episode_id, failed.reason, failed.error_type) == ("unreadable", "rejected", "BadEvent")
    assert seen == ["good"]
    assert info is not None
    assert info.num_ack_pending == 0


async def test_two_megabyte_body_ends_as_a_failure_with_the_limit(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(max_payload_bytes=4 * 1024 * 1024), connect, "robot")

    async def never(_: Delivery[EpisodeReady]) -> None:
        raise AssertionError("must not run")

    await publish_raw(bus, "episode.ready.robot", b"x" * 2_000_000)
    async with serving(bus, work("robot", never)) as consumer:
        await until(lambda: consumer.counts.failed == 1)

    assert "2000000 bytes, the limit is 524288" in (await only_failure(bus, "unknown")).error


async def test_heartbeats_hold_a_message_far_beyond_the_ack_wait(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await provisioned(await private_nats(), connect, "robot", ack_wait_s=0.3)
    attempts: list[int] = []

    async def work_long(delivery: Delivery[EpisodeReady]) -> None:
        attempts.append(delivery.attempt)
        await asyncio.sleep(1.2)  # four ack waits of work

    await publish(bus, "robot", "e1")
    async with serving(bus, work("robot", work_long, slots=2)) as consumer:
        await until(lambda: consumer.counts.done == 1)

    assert attempts == [1]


async def test_two_consumers_share_the_messages_without_repeating_one(bus: Bus, source: str) -> None:
    seen: dict[str, list[str]] = {"one": [], "two": []}

    def noting(name: str) -> Handler:
        async def note(delivery: Delivery[EpisodeReady]) -> None:
            seen[name].append(delivery.event.episode_id)
            await until(lambda: all(seen.values()))  # nobody goes on before both have had one

        return note

    names = [f"e{index}" for index in range(40)]
    await publish(bus, source, *names)
    async with serving(bus, work(source, noting("one"))), serving(bus, work(source, noting("two"))):
        await until(lambda: len(seen["one"]) + len(seen["two"]) == 40)

    assert sorted(seen["one"] + seen["two"]) == sorted(names)


async def test_slots_bound_the_work_at_once(bus: Bus, source: str) -> None:
    active, most = 0, 0

    async def count(_: Delivery[EpisodeReady]) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0.01)
        active -= 1

    await publish(bus, source, *[f"e{index}" for index in range(12)])
    async with serving(bus, work(source, count, slots=3)) as consumer:
        await until(lambda: consumer.counts.done == 12)

    assert most == 3


async def test_shutdown_lets_work_finish_within_the_grace(bus: Bus, source: str) -> None:
    started, proceed = asyncio.Event(), asyncio.Event()

    async def wait(_: Delivery[EpisodeReady]) -> None:
        started.set()
        await proceed.wait()

    stopping = asyncio.Event()
    await publish(bus, source, "e1", "e2")
    running = asyncio.create_task(Consumer(bus, work(source, wait)).run(stopping))
    await started.wait()
    stopping.set()
    await asyncio.sleep(0)
    proceed.set()

    assert await running == Counts(done=1)


async def test_shutdown_gives_unfinished_work_back_at_once_after_the_grace(bus: Bus, source: str) -> None:
    started = asyncio.Event()
    attempts: list[int] = []

    async def wait(_: Delivery[EpisodeReady]) -> None:
        started.set()
        await asyncio.Event().wait()

    async def note(delivery: Delivery[EpisodeReady]) -> None:
        attempts.append(delivery.attempt)

    stopping = asyncio.Event()
    await publish(bus, source, "e1")
    running = asyncio.create_task(Consumer(bus, work(source, wait, grace_s=0.05)).run(stopping))
    await started.wait()
    stopping.set()

    assert await running == Counts(returned=1)
    async with serving(bus, work(source, note)):  # the ack wait is 60 s: only a nak brings it this early
        await until(lambda: attempts == [2], within_s=5)


async def test_missing_durable_is_refused_at_the_start(bus: Bus, source: str) -> None:
    async def never(_: Delivery[EpisodeReady]) -> None:
        raise AssertionError("must not run")

    with pytest.raises(Refused, match="has no consumer converter-nobody: run `episodeflow provision`"):
        await Consumer(bus, work(source, never, durables=("converter-nobody",))).run(asyncio.Event())


async def test_bus_closed_underneath_ends_the_service_with_an_error(connect: BusFactory, bus: Bus, source: str) -> None:
    async def never(_: Delivery[EpisodeReady]) -> None:
        raise AssertionError("must not run")

    other = await connect(bus.config)
    running = asyncio.create_task(Consumer(other, work(source, never)).run(asyncio.Event()))
    await asyncio.sleep(0.05)
    await other.close()

    with pytest.raises(BusUnavailable):
        await asyncio.wait_for(running, 10)


async def test_killed_server_during_work_and_waiting_pull_loses_nothing(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    bus = await provisioned(server, connect, "robot", ack_wait_s=1.0)
    started = asyncio.Event()
    seen: set[str] = set()

    async def note(delivery: Delivery[EpisodeReady]) -> EpisodeReady:
        started.set()
        await asyncio.sleep(0.01)
        seen.add(delivery.event.episode_id)
        fields = msgspec.structs.asdict(delivery.event)
        return EpisodeConverted(**fields, spool="robot", path="p", frames=1, duration_s=0.1, num_bytes=1, digest="d")

    names = [f"e{index}" for index in range(30)]
    async with serving(bus, work("robot", note, slots=2)) as consumer:
        await publish(bus, "robot", "first")
        await until(lambda: consumer.counts.done == 1)
        started.clear()
        publishing = asyncio.create_task(publish(bus, "robot", *names))
        await started.wait()
        await server.kill()
        await server.restart()
        await publishing
        await until(lambda: seen.issuperset(names))
        await until(lambda: consumer.counts.done >= 31)

    state = await bus.stream_info(subjects="episode.converted.>")
    assert state is not None
    assert state.state.subjects == {"episode.converted.robot": 31}
