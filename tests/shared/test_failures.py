"""Reading failures off a real stream, and publishing them again."""

import asyncio
import time
from pathlib import Path

import pytest

from shared import events
from shared.causes import Failure
from shared.config import StorageConfig
from shared.consumer import Consumer, Delivery, Work
from shared.errors import BadEvent, Refused
from shared.events import EpisodeReady
from shared.failures import FailureReader, failed_event, first_seq_since, history, republish, stored_at_s
from shared.provision import ANY_DURABLE
from tests.cli.labs import Lab, failed, opened_lab, ready, uploaded
from tests.fixtures_bus import BusFactory, ServerFactory, storage_for


async def read(lab: Lab) -> list[Failure]:
    return (await FailureReader(lab.bus, strategy="nearest").catch_up()).failures()


async def test_history_gives_every_message_once_in_order_over_several_portions(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        await asyncio.gather(*(lab.publish(ready(f"ep{index}"), f"id{index}") for index in range(450)))

        await lab.bus.api("STREAM.MSG.DELETE.EPISODES", {"seq": 200})

        found = [stored.seq async for stored in history(lab.bus, first_seq=11, last_seq=440)]

        assert found == [seq for seq in range(11, 441) if seq != 200]


async def test_first_number_since_a_moment_is_found_by_halving(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        assert await first_seq_since(lab.bus, 0.0) == 1
        for index in range(20):
            await lab.publish(ready(f"ep{index}"))
        await lab.bus.api("STREAM.MSG.DELETE.EPISODES", {"seq": 6})
        stored = await lab.bus.stored(7)
        assert stored is not None

        found = [await first_seq_since(lab.bus, moment) for moment in (0.0, stored_at_s(stored), time.time() + 60)]

        assert found[0] == 1
        assert found[1] in {6, 7}
        assert found[2] == 21


async def test_stream_that_is_not_there_is_refused_with_what_to_do(private_nats: ServerFactory, connect: BusFactory) -> None:
    bus = await connect(storage_for(await private_nats(), "lab").nats)

    with pytest.raises(Refused, match="episodeflow provision"):
        await FailureReader(bus, strategy="nearest").catch_up()


async def test_reader_starts_at_the_first_failure_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        reader = FailureReader(lab.bus, strategy="nearest")
        await lab.publish(uploaded("a"))
        assert (await reader.catch_up()).failures() == []
        await lab.fail("a")
        await lab.fail("b")
        assert [failure.status for failure in (await reader.catch_up()).failures()] == ["open", "open"]
        await lab.publish(ready("a"))
        await lab.publish(uploaded("b"))

        found = (await reader.catch_up()).failures()

        assert [(failure.episode_id, failure.status) for failure in found] == [("a", "retried"), ("b", "recovered")]


async def test_republish_twice_is_one_message_and_again_makes_another(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        await lab.fail("a", strategy="window", config_overrides={"video.crf": 18}, raw="file:///raw/a", task="stack")
        [failure] = await read(lab)

        receipts = [await republish(lab.bus, failure), await republish(lab.bus, failure), await republish(lab.bus, failure, again=True)]

        assert [receipt.duplicate for receipt in receipts] == [False, True, False]
        stored = await lab.bus.stored(receipts[0].seq)
        assert stored is not None
        assert stored.subject == "episode.ready.lab"
        event = events.decode(stored.body, EpisodeReady)
        assert (event.strategy, event.config_overrides, event.raw, event.task) == ("window", {"video.crf": 18}, "file:///raw/a", "stack")


async def test_republish_of_a_later_failure_of_the_same_episode_is_a_new_message(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        await lab.fail("a")
        [first] = await read(lab)
        await republish(lab.bus, first)
        await lab.fail("a")
        [second] = await read(lab)

        assert not (await republish(lab.bus, second)).duplicate


async def test_failure_of_an_unreadable_event_is_not_published_again(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        await lab.fail("unreadable")
        [failure] = await read(lab)

        with pytest.raises(BadEvent, match="could not be read"):
            await republish(lab.bus, failure)


async def test_failed_event_names_what_else_a_number_is(tmp_path: Path) -> None:
    async with opened_lab(tmp_path) as lab:
        await lab.publish(ready("a"))

        with pytest.raises(BadEvent, match=r"message 1 is on episode\.ready\.lab"):
            await failed_event(lab.bus, 1)
        with pytest.raises(BadEvent, match="has no message 99"):
            await failed_event(lab.bus, 99)


async def test_stored_body_of_a_failure_published_raw_to_the_bare_subject_is_worked_on(bus_storage: tuple[Lab, StorageConfig]) -> None:
    """What ``nats stream get | jq | base64 -d | nats pub --jetstream episode.ready`` does: no headers, the body unchanged."""
    lab, storage = bus_storage
    receipt = await lab.fail("a", strategy="window", raw="file:///raw/a")
    stored = await lab.bus.stored(receipt.seq)
    assert stored is not None
    answer = await lab.bus.connection.ask("episode.ready", stored.body, timeout_s=5)
    assert b'"seq":2' in answer.replace(b" ", b"")
    stopping = asyncio.Event()
    seen: list[EpisodeReady] = []

    async def handle(delivery: Delivery[EpisodeReady]) -> None:
        seen.append(delivery.event)
        stopping.set()

    work = Work(
        stage="converter", durables=(ANY_DURABLE,), event_type=EpisodeReady, handler=handle, max_attempts=storage.conversion.max_attempts
    )
    async with asyncio.timeout(20):
        await Consumer(lab.bus, work).run(stopping)

    assert [(event.episode_id, event.source, event.strategy, event.raw) for event in seen] == [("a", "lab", "window", "file:///raw/a")]
    assert [failure.status for failure in await read(lab)] == ["retried"]


@pytest.fixture
async def bus_storage(tmp_path: Path):  # type: ignore[no-untyped-def]
    async with opened_lab(tmp_path) as lab:
        yield lab, StorageConfig()


def test_labs_failed_event_is_a_ready_event_too() -> None:
    assert events.decode(events.encode(failed("a")), EpisodeReady).episode_id == "a"
