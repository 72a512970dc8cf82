"""Publishing and looking, against a real nats-server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from cli.servers import NatsServer, NatsUser, free_port
from shared.bus import Bus
from shared.config import NatsConfig, TlsConfig
from shared.errors import BadConfig, BadEvent, BusUnavailable, Refused
from shared.events import EpisodeReady
from shared.provision import converter_durable, provision, provision_plan
from shared.settings import Secret
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for


def ready(source: str, episode_id: str = "e1") -> EpisodeReady:
    return EpisodeReady(episode_id=episode_id, source=source)


async def test_published_event_lies_in_the_stream_under_its_subject(bus: Bus, source: str) -> None:
    receipt = await bus.publish(ready(source), message_id=f"ready:{source}:1")
    stored = await bus.stored(receipt.seq)

    assert stored is not None
    assert (stored.subject, stored.seq) == (f"episode.ready.{source}", receipt.seq)
    assert not receipt.duplicate


async def test_same_message_id_is_stored_once_and_reported_as_duplicate(bus: Bus, source: str) -> None:
    first = await bus.publish(ready(source), message_id=f"ready:{source}:1")
    again = await bus.publish(ready(source), message_id=f"ready:{source}:1")

    assert again.duplicate
    assert again.seq == first.seq


async def test_publish_outlasts_a_killed_server(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    config = storage_for(server, "robot")
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    await server.kill()
    publishing = [asyncio.create_task(bus.publish(ready("robot", f"e{index}"), message_id=f"ready:{index}")) for index in range(20)]
    await asyncio.sleep(0.05)
    await server.restart()
    receipts = await asyncio.gather(*publishing)

    info = await bus.stream_info()
    assert info is not None
    assert info.state.messages == 20
    assert len({receipt.seq for receipt in receipts}) == 20


async def test_publish_with_a_deadline_gives_up(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    config = storage_for(server, "robot")
    bus = await connect(config.nats)
    await server.kill()

    with pytest.raises(BusUnavailable, match=r"did not acknowledge episode.ready.robot within 0.2 s"):
        await bus.publish(ready("robot"), message_id="1", deadline_s=0.2)


async def test_publish_without_a_stream_is_refused_with_the_remedy(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect((await private_nats()).config())

    with pytest.raises(Refused, match=r"no stream takes episode.ready.robot: run `episodeflow provision`"):
        await bus.publish(ready("robot"), message_id="1")


async def test_event_larger_than_readers_accept_is_not_published(bus: Bus, source: str) -> None:
    event = EpisodeReady(episode_id="e1", source=source, config_overrides={"x": "y" * 600_000})

    with pytest.raises(BadEvent, match="the limit is 524288"):
        await bus.publish(event, message_id="1")


async def test_denied_permission_is_refused_at_once_and_names_the_subject(tmp_path: Path, connect: BusFactory) -> None:
    users = (NatsUser(name="viewer", password=Secret("v"), publish=("$JS.API.>",), subscribe=("_INBOX_viewer.>",)),)
    async with NatsServer(tmp_path, users=users) as server:
        bus = await connect(msgspec.structs.replace(server.config(), inbox_prefix="_INBOX_viewer"))

        with pytest.raises(Refused, match=r"'viewer' has no permission for publish on episode.ready.robot"):
            await asyncio.wait_for(bus.publish(ready("robot"), message_id="1"), 2)


async def test_denied_inbox_points_at_the_inbox_prefix(tmp_path: Path, connect: BusFactory) -> None:
    users = (NatsUser(name="viewer", password=Secret("v"), subscribe=("_INBOX_other.>",)),)
    async with NatsServer(tmp_path, users=users) as server:
        bus = await connect(server.config())

        with pytest.raises(Refused, match=r"nats\.inbox_prefix"):
            await asyncio.wait_for(bus.stream_info(), 2)


async def test_wrong_password_is_refused_without_waiting_for_the_timeout(nats_server: NatsServer) -> None:
    config = msgspec.structs.replace(nats_server.config(), password=Secret("wrong"))

    with pytest.raises(Refused, match=r"refuses the user 'episodeflow': check nats.user and nats.password"):
        await asyncio.wait_for(Bus.connect(config, name="test"), 3)


async def test_absent_server_is_reported_within_the_connect_timeout() -> None:
    config = NatsConfig(servers=(f"nats://me:hidden@127.0.0.1:{free_port()}",), connect_timeout_s=0.3)

    with pytest.raises(BusUnavailable, match="nobody answers as NATS") as caught:
        await asyncio.wait_for(Bus.connect(config, name="test"), 3)
    assert "hidden" not in str(caught.value)


async def test_malformed_address_is_a_configuration_error() -> None:
    with pytest.raises(BadConfig, match="nats: servers"):
        await Bus.connect(NatsConfig(servers=("nats://host:port:7",), connect_timeout_s=1), name="test")


async def test_missing_certificate_is_a_configuration_error() -> None:
    config = NatsConfig(tls=TlsConfig(ca_file="/nowhere/ca.pem"))

    with pytest.raises(BadConfig, match=r"/nowhere/ca\.pem"):
        await Bus.connect(config, name="test")


async def test_state_of_stream_and_consumers_can_be_looked_at(bus: Bus, source: str) -> None:
    await bus.publish(ready(source), message_id=f"ready:{source}:1")
    stream = await bus.stream_info(subjects=f"episode.ready.{source}")
    consumer = await bus.consumer_info(converter_durable(source).name)
    names = {info.name for info in await bus.consumer_infos()}

    assert stream is not None
    assert stream.state.subjects == {f"episode.ready.{source}": 1}
    assert consumer is not None
    assert consumer.num_pending == 1
    assert {converter_durable(source).name, f"uploader-{source}", "converter-any"} <= names


async def test_what_is_not_there_is_none(bus: Bus) -> None:
    assert await bus.consumer_info("nobody") is None
    assert await bus.stored(10**9) is None


async def test_close_may_be_called_twice_and_later_publishes_say_so(connect: BusFactory, bus: Bus, source: str) -> None:
    other = await connect(bus.config)
    await other.close()
    await other.close()

    with pytest.raises(BusUnavailable, match="is closed"):
        await other.publish(ready(source), message_id="1")
