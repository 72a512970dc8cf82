"""Every user of the table of permissions on a real nats-server: each can do its whole job, and nothing of the others'."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cli.servers import NatsServer, NatsUser
from shared.bus import Bus
from shared.config import NatsConfig, StorageConfig
from shared.connection import Incoming
from shared.consumer import Consumer, Counts, Delivery, Work
from shared.errors import BusUnavailable, Refused
from shared.events import E, EpisodeConverted, EpisodeFailed, EpisodeReady, EpisodeUploaded
from shared.leases import Key, Lease, Leases
from shared.permissions import PROGRESS_SUBJECT
from shared.provision import bus_users, provision, provision_plan
from shared.pull import Puller
from shared.settings import Secret
from tests.fixtures_bus import BusFactory

SOURCE, SPOOL, STREAM = "robot", "default", "EPISODES"
STORAGE = StorageConfig(sources=(SOURCE, "lab.one"))
SERVICES = ("recorder", "scanner", "converter", "uploader")
PEOPLE = ("operator", "monitor")
READY = EpisodeReady(episode_id="e1", source=SOURCE)
CONVERTED = EpisodeConverted(
    episode_id="e1",
    source=SOURCE,
    strategy="nearest",
    spool=SPOOL,
    path="robot/e1",
    frames=1,
    duration_s=1.0,
    num_bytes=1,
    digest="sha256:0",
)
UPLOADED = EpisodeUploaded(**msgspec.structs.asdict(CONVERTED), uri="file:///x")
FAILED = EpisodeFailed(
    episode_id="e1",
    source=SOURCE,
    stage="converter",
    reason="rejected",
    error_type="BadRaw",
    error="x",
    attempts=1,
    host="h",
    failed_at=0.0,
)
EVENTS = {"ready": READY, "converted": CONVERTED, "uploaded": UPLOADED, "failed": FAILED}
MAY_PUBLISH = {
    "recorder": {"ready"},
    "scanner": {"ready"},
    "converter": {"converted", "failed"},
    "uploader": {"uploaded", "failed"},
    "operator": {"ready", "converted"},
    "monitor": set[str](),
}
MAY_CONSUME = {"converter": {"converter-robot", "converter-lab_one", "converter-any"}, "uploader": {"uploader-default"}}

As = Callable[[str], Awaitable[Bus]]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server with the users of the table and the provisioned stream."""
    table = tuple(NatsUser.of(user, Secret(secrets.token_hex(8))) for user in bus_users(STORAGE))
    async with NatsServer(tmp_path / "nats", users=table) as started:
        async with await Bus.connect(started.config("admin"), name="provision") as bus:
            await provision(bus, provision_plan(STORAGE))
        yield started


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """The same for all tests that are only refused."""
    table = tuple(NatsUser.of(user, Secret(secrets.token_hex(8))) for user in bus_users(STORAGE))
    server = NatsServer(tmp_path_factory.mktemp("bus"), users=table)

    async def start() -> None:
        await server.start()
        async with await Bus.connect(server.config("admin"), name="provision") as bus:
            await provision(bus, provision_plan(STORAGE))

    asyncio.run(start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def as_refused(lasting_server: NatsServer, connect: BusFactory) -> As:
    """Connect to the lasting server as one of the users."""

    async def connected(user: str) -> Bus:
        return await connect(lasting_server.config(user), name=user)

    return connected


@pytest.fixture
def as_user(server: NatsServer, connect: BusFactory) -> As:
    """Connect as one of the users, with nothing configured but name and password."""

    async def connected(user: str) -> Bus:
        return await connect(server.config(user), name=user)

    return connected


async def test_service_user_runs_the_real_consumer_from_pull_to_acknowledgement(as_user: As) -> None:
    scanner, converter, uploader = await as_user("scanner"), await as_user("converter"), await as_user("uploader")
    await scanner.publish(READY, message_id="1")

    async def convert(delivery: Delivery[EpisodeReady]) -> EpisodeConverted:
        return CONVERTED

    async def upload(delivery: Delivery[EpisodeConverted]) -> EpisodeUploaded:
        return UPLOADED

    converting = Work(stage="converter", durables=tuple(MAY_CONSUME["converter"]), event_type=EpisodeReady, handler=convert)
    uploading = Work(stage="uploader", durables=tuple(MAY_CONSUME["uploader"]), event_type=EpisodeConverted, handler=upload)
    counts = [await _handled(Consumer(converter, converting)), await _handled(Consumer(uploader, uploading))]
    info = await converter.consumer_info("converter-robot")

    assert [count.done for count in counts] == [1, 1]
    assert info is not None
    assert (info.num_pending, info.num_ack_pending) == (0, 0)


async def test_failing_episode_is_retried_failed_and_ended_with_the_converters_permissions(as_user: As) -> None:
    scanner, converter = await as_user("scanner"), await as_user("converter")
    await scanner.publish(READY, message_id="1")

    async def refuse(delivery: Delivery[EpisodeReady]) -> None:
        if delivery.attempt == 1:
            raise BusUnavailable("first it may heal")
        raise Refused("then it cannot")

    work = Work(stage="converter", durables=("converter-robot",), event_type=EpisodeReady, handler=refuse)
    consumer = Consumer(converter, work)
    await _handled(consumer, num=2)

    assert (consumer.counts.retried, consumer.counts.failed) == (1, 1)


async def test_heartbeat_of_the_converter_holds_its_message(server: NatsServer, as_user: As) -> None:
    async with await Bus.connect(server.config("admin"), name="admin") as admin:
        short = msgspec.structs.replace(STORAGE, nats=NatsConfig(ack_wait_s=1.0))
        await provision(admin, provision_plan(short))
    converter = await as_user("converter")
    await (await as_user("scanner")).publish(READY, message_id="1")
    message = await Puller(converter, ("converter-robot",)).next()
    assert message is not None
    for _ in range(5):
        await message.in_progress()
        await asyncio.sleep(0.3)  # the ack wait of 1 s would be over without the heartbeats

    info = await converter.consumer_info("converter-robot")
    assert info is not None
    assert (info.num_ack_pending, info.num_redelivered) == (1, 0)


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
async def test_user_publishes_its_own_events_and_is_refused_every_other(as_refused: As, user: str) -> None:
    bus = await as_refused(user)
    published = {stage for stage, event in EVENTS.items() if await _may(bus.publish(event, message_id=f"{user}-{stage}"))}

    assert published == MAY_PUBLISH[user]


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
async def test_user_pulls_only_from_its_own_durables(as_refused: As, user: str) -> None:
    bus = await as_refused(user)
    durables = [durable.name for durable in provision_plan(STORAGE).durables]
    asked = {name for name in durables if await _may(_pulled(bus, name))}

    assert asked == MAY_CONSUME.get(user, set())


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
@pytest.mark.parametrize(
    "call",
    [
        f"STREAM.DELETE.{STREAM}",
        f"STREAM.PURGE.{STREAM}",
        f"STREAM.UPDATE.{STREAM}",
        f"STREAM.MSG.DELETE.{STREAM}",
        "STREAM.CREATE.MINE",
        f"CONSUMER.CREATE.{STREAM}.mine.episode.ready",
        f"CONSUMER.DELETE.{STREAM}.converter-robot",
        f"STREAM.SNAPSHOT.{STREAM}",
    ],
)
async def test_nobody_but_the_admin_changes_stream_or_consumers(as_refused: As, user: str, call: str) -> None:
    bus = await as_refused(user)

    with pytest.raises(Refused, match="has no permission"):
        await bus.api(call, {})


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
async def test_user_settles_no_message_of_a_foreign_durable(as_refused: As, user: str) -> None:
    bus = await as_refused(user)
    foreign = {"uploader-default", "converter-robot"} - MAY_CONSUME.get(user, set())

    for durable in foreign:
        assert not await _may(bus.connection.ask(f"$JS.ACK.{STREAM}.{durable}.1.1.1.1.0", b"+ACK", timeout_s=1))


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
@pytest.mark.parametrize("subject", ["episode.>", "_INBOX_admin.>", "_INBOX.>", ">", "$JS.>"])
async def test_user_hears_neither_the_stream_nor_anothers_inbox(as_refused: As, user: str, subject: str) -> None:
    assert not await _hears(await as_refused(user), subject)


@pytest.mark.parametrize("user", [*SERVICES, *PEOPLE])
async def test_inbox_of_every_other_user_is_closed(as_refused: As, user: str) -> None:
    bus = await as_refused(user)

    for other in {*SERVICES, *PEOPLE} - {user}:
        assert not await _hears(bus, f"_INBOX_{other}.>")


@pytest.mark.parametrize("user", PEOPLE)
async def test_people_see_stream_consumers_and_stored_events(as_user: As, user: str) -> None:
    await (await as_user("scanner")).publish(READY, message_id="1")
    bus = await as_user(user)
    stream, stored = await bus.stream_info(subjects=">"), await bus.stored(1, next_on="episode.>")

    assert stream is not None
    assert stream.state.subjects == {"episode.ready.robot": 1}
    assert stored is not None
    assert {info.name for info in await bus.consumer_infos()} == {durable.name for durable in provision_plan(STORAGE).durables}


async def test_progress_of_a_service_reaches_the_monitor(as_user: As) -> None:
    monitor, converter = await as_user("monitor"), await as_user("converter")
    heard: asyncio.Future[Incoming] = asyncio.get_running_loop().create_future()
    subscribed = await monitor.connection.subscribe(f"{PROGRESS_SUBJECT}.>", heard.set_result)
    await monitor.stream_info()  # its answer comes after the subscription has arrived
    await converter.connection.send(f"{PROGRESS_SUBJECT}.robot", b"{}")

    assert (await asyncio.wait_for(heard, 5)).subject == f"{PROGRESS_SUBJECT}.robot"
    await subscribed.end(drain=False)


async def test_unknown_user_and_nobody_are_refused(server: NatsServer) -> None:
    for config in (NatsConfig(servers=(server.url,)), NatsConfig(servers=(server.url,), user="converter", password=Secret("guess"))):
        with pytest.raises(Refused, match=r"nats\.password"):
            await Bus.connect(config, name="stranger")


async def _handled(consumer: Consumer[E], num: int = 1) -> Counts:
    """Let a consumer run until it has brought ``num`` messages to an end."""
    stopping = asyncio.Event()
    running = asyncio.create_task(consumer.run(stopping))
    async with asyncio.timeout(20):
        while sum(msgspec.structs.astuple(consumer.counts)) < num:  # noqa: ASYNC110 - the counts tell nobody that they changed
            await asyncio.sleep(0.02)
    stopping.set()
    return await running


async def _pulled(bus: Bus, durable: str) -> bytes:
    return await bus.connection.ask(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{durable}", b'{"batch": 1, "no_wait": true}', timeout_s=1)


async def _may(asking: Awaitable[object]) -> bool:
    """Whether a request is let through; who answers, if anybody, does not matter."""
    try:
        await asyncio.wait_for(asking, 2)
    except Refused as error:
        if "has no permission" not in str(error):
            raise
        return False
    except BusUnavailable:
        return True
    return True


async def _hears(bus: Bus, subject: str) -> bool:
    """Whether the server accepts a subscription."""
    denied = asyncio.Event()
    with bus.connection.watching(subject, lambda error: denied.set()):
        subscribed = await bus.connection.subscribe(subject, lambda incoming: None)
        try:
            await asyncio.wait_for(denied.wait(), 2)
        except TimeoutError:
            return True
        finally:
            await subscribed.end(drain=False)
    return False


async def test_only_the_uploader_takes_leases_on_datasets(as_user: As) -> None:
    async with Leases(await as_user("uploader")).holding("me/stack") as lease:
        lease.check()

        for name in ("recorder", "scanner", "converter", "operator", "monitor"):
            with pytest.raises(Refused, match="no permission"):
                await Lease(Key(await as_user(name), "me/stack", timeout_s=5.0), lease_s=30.0).take()
