"""Stream and durables, made and updated on a real nats-server."""

from __future__ import annotations

import msgspec
import pytest

from shared.config import StorageConfig
from shared.errors import Refused
from shared.events import EpisodeReady
from shared.provision import provision, provision_plan
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for


def test_plan_has_one_converter_durable_per_source_one_for_the_bare_subject_and_the_spools_uploader() -> None:
    plan = provision_plan(StorageConfig(sources=("lab.one", "bos")))

    assert [(durable.name, durable.subject) for durable in plan.durables] == [
        ("converter-lab_one", "episode.ready.lab.one"),
        ("converter-bos", "episode.ready.bos"),
        ("converter-any", "episode.ready"),
        ("uploader-default", "episode.converted.default"),
    ]


async def test_first_run_creates_and_the_second_changes_nothing(private_nats: ServerFactory, connect: BusFactory) -> None:
    config = storage_for(await private_nats(), "lab.one")
    bus = await connect(config.nats)

    assert {change.done for change in await provision(bus, provision_plan(config))} == {"created"}
    assert {change.done for change in await provision(bus, provision_plan(config))} == {"unchanged"}


async def test_created_settings_are_those_of_the_contract(private_nats: ServerFactory, connect: BusFactory) -> None:
    config = storage_for(await private_nats(), "robot", ack_wait_s=7)
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    stream, consumer = await bus.stream_info(), await bus.consumer_info("converter-robot")

    assert stream is not None
    assert stream.config["subjects"] == ["episode.>"]
    assert (stream.config["storage"], stream.config["retention"]) == ("file", "limits")
    assert (stream.config["max_age"], stream.config["duplicate_window"]) == (30 * 86_400 * 10**9, 600 * 10**9)
    assert consumer is not None
    assert (consumer.config["ack_policy"], consumer.config["ack_wait"], consumer.config["max_deliver"]) == ("explicit", 7 * 10**9, -1)
    assert "backoff" not in consumer.config


async def test_bucket_of_leases_forgets_after_the_time_of_a_lease(private_nats: ServerFactory, connect: BusFactory) -> None:
    config = storage_for(await private_nats(), "robot")
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    found = await bus.api("STREAM.INFO.KV_EPISODES_leases", {})

    assert found is not None
    assert (found["config"]["subjects"], found["config"]["max_age"]) == (["$KV.EPISODES_leases.>"], 10 * 10**9)
    assert (found["config"]["max_msgs_per_subject"], found["config"]["storage"]) == (1, "file")


async def test_changed_settings_are_updated_in_place_and_messages_and_foreign_settings_stay(
    private_nats: ServerFactory, connect: BusFactory
) -> None:
    config = storage_for(await private_nats(), "robot")
    bus = await connect(config.nats)
    await provision(bus, provision_plan(config))
    await bus.publish(EpisodeReady(episode_id="e1", source="robot"), message_id="1")
    stream = await bus.stream_info()
    assert stream is not None
    by_operator = stream.config | {"subjects": ["episode.>", "advisory.>"], "description": "mine"}
    await bus.api(f"STREAM.UPDATE.{config.nats.stream}", by_operator)
    changed = msgspec.structs.replace(config, nats=msgspec.structs.replace(config.nats, ack_wait_s=5, max_age_days=10))

    plan = provision_plan(changed)
    changes = {change.name: change.done for change in await provision(bus, plan)}
    after = await bus.stream_info()
    assert {name for name, done in changes.items() if done == "unchanged"} == {plan.leases}
    assert after is not None
    assert (after.config["subjects"], after.config["description"]) == (["episode.>", "advisory.>"], "mine")
    assert after.state.messages == 1


async def test_setting_that_cannot_be_changed_is_refused_with_the_servers_reason(private_nats: ServerFactory, connect: BusFactory) -> None:
    config = storage_for(await private_nats(), "robot")
    bus = await connect(config.nats)
    await bus.api(f"STREAM.CREATE.{config.nats.stream}", {"name": config.nats.stream, "subjects": ["episode.>"], "storage": "memory"})

    with pytest.raises(Refused, match=r"STREAM.UPDATE.EPISODES: .*storage"):
        await provision(bus, provision_plan(config))


async def test_removed_source_keeps_its_durable(private_nats: ServerFactory, connect: BusFactory) -> None:
    server = await private_nats()
    bus = await connect(server.config())
    await provision(bus, provision_plan(storage_for(server, "old")))
    await provision(bus, provision_plan(storage_for(server, "new")))

    assert await bus.consumer_info("converter-old") is not None
