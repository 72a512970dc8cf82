"""`episodeflow monitor` and what it looks at, on real servers."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from cli.monitor_view import overview_view
from cli.overview import ConsumerRow, Overview, SourceRow, unconsumed
from cli.servers import ValkeyServer
from shared.config import load_storage
from shared.ledger import Ledger
from shared.progress import Progress, progress_subject
from shared.pull import Puller
from tests.cli.labs import Lab, opened_lab, ready, uploaded


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(tmp_path) as opened:
        yield opened


async def overview(lab: Lab) -> Overview:
    result = await lab.run("monitor", "--once", "--json")
    assert result.exit_code == 0
    return msgspec.json.decode(result.stdout, type=Overview)


async def test_counts_per_source_what_is_pending_in_flight_failed_and_completed(lab: Lab) -> None:
    for name in "abc":
        await lab.publish(ready(name))
    puller = Puller(lab.bus, ("converter-lab",))
    message = await puller.next()
    await lab.fail("x")
    await lab.fail("y")
    await lab.publish(ready("y", source="lab"))
    await lab.publish(uploaded("z"))

    seen = await overview(lab)

    row = {source.source: source for source in seen.sources}["lab"]
    assert (row.pending, row.in_flight, row.failed, row.retried, row.completed, row.failures) == (3, 1, 1, 1, 1, 2)
    assert (row.counted_by, row.per_minute) == ("stream", 0.2)
    assert row.eta_s == 4 * 60 / 0.2
    assert row.oldest_s is not None
    assert 0 <= row.oldest_s < 60
    assert {source.source: source.pending for source in seen.sources}["other"] == 0
    assert any("counted on the stream" in notice for notice in seen.notices)
    assert message is not None
    await message.nak()


async def test_counters_come_from_redis_where_it_answers(tmp_path: Path, valkey_server: ValkeyServer) -> None:
    async with opened_lab(tmp_path, valkey_server) as lab:
        storage, _ = load_storage(lab.config, {})
        async with Ledger(storage.redis) as ledger:
            before = await ledger.stats("lab")
            await ledger.record("lab", "a", strategy="nearest", state="completed", token=str(time.monotonic_ns()))

        row = (await overview(lab)).sources[0]

    assert (row.counted_by, row.completed) == ("redis", before.completed + 1)


async def test_tells_which_worker_is_how_far(lab: Lab) -> None:
    progress = Progress(
        source="lab",
        episode_id="ep_1",
        strategy=None,
        stage="converting",
        host="worker-1",
        pid=7,
        worker="converter",
        started_at=time.time() - 5,
        updated_at=time.time(),
        frames_done=30,
        frames_total=60,
    )

    async def tell() -> None:
        while True:
            await lab.bus.connection.send(progress_subject("lab", "ep_1"), msgspec.json.encode(progress))
            await asyncio.sleep(0.1)

    telling = asyncio.create_task(tell())
    try:
        seen = await overview(lab)
    finally:
        telling.cancel()

    assert [(told.episode_id, told.host, told.frames_done, told.frames_total) for told in seen.episodes] == [("ep_1", "worker-1", 30, 60)]


async def test_names_subjects_that_nobody_consumes_and_consumers_without_a_worker(lab: Lab) -> None:
    await lab.publish(ready("a", source="forgotten"))
    puller = Puller(lab.bus, ("converter-lab", "converter-other", "converter-any"))
    pulling = asyncio.create_task(puller.next())
    try:
        seen = await overview(lab)
        shown = (await lab.run("monitor", "--once")).stdout
    finally:
        puller.stop()
        await pulling

    assert seen.unconsumed == {"episode.ready.forgotten": 1}
    assert {row.name: row.state for row in seen.consumers} == {
        "converter-lab": "served",
        "converter-other": "served",
        "converter-any": "served",
        "uploader-default": "unserved",
    }
    assert "nobody consumes episode.ready.forgotten (1 events)" in " ".join(shown.split())
    assert "no worker serves uploader-default" in " ".join(shown.split())


async def test_consumer_that_is_missing_is_named_with_the_remedy(lab: Lab) -> None:
    await lab.bus.api("CONSUMER.DELETE.EPISODES.converter-other", {})

    seen = await overview(lab)

    assert any("no consumer converter-other: run `episodeflow provision`" in notice for notice in seen.notices)


async def test_json_without_once_is_refused(lab: Lab) -> None:
    result = await lab.run("monitor", "--json")

    assert result.exit_code == 2


async def test_keys_of_the_json_are_those_that_scripts_use(lab: Lab) -> None:
    document = json.loads((await lab.run("monitor", "--once", "--json")).stdout)

    assert list(document) == ["at", "sources", "consumers", "episodes", "unconsumed", "notices"]
    assert list(document["sources"][0]) == [
        *("source", "pending", "in_flight", "failed", "retried", "completed", "failures", "counted_by"),
        *("oldest_s", "per_minute", "eta_s"),
    ]
    assert list(document["consumers"][0]) == ["name", "subject", "pending", "in_flight", "redelivered", "waiting", "state", "oldest_s"]


def test_subjects_that_are_only_kept_count_as_consumed() -> None:
    counts = {"episode.failed.lab": 3, "episode.uploaded.lab": 4, "episode.converted.old": 1, "episode.ready": 2, "episode.ready.lab": 5}

    assert unconsumed(counts, ["episode.ready.lab", "episode.ready"]) == {"episode.converted.old": 1}


def crowded() -> Overview:
    source = SourceRow(
        source="lab_with_a_long_name", pending=12345, in_flight=8, failed=17, retried=3, completed=123456, failures=99,
        counted_by="redis", oldest_s=98765.0, per_minute=123.4, eta_s=6000.0,
    )  # fmt: skip
    consumer = ConsumerRow(
        name="uploader-default", subject="episode.converted.default", pending=4, in_flight=2, redelivered=0, waiting=0,
        state="busy", oldest_s=9.0,
    )  # fmt: skip
    progress = Progress(
        source="lab_with_a_long_name", episode_id="episode_2026_11_20_000123", strategy="chunking", stage="converting",
        host="gpu-worker-17",
        pid=123456, worker="converter", started_at=1000.0, updated_at=1060.0, frames_done=1200, frames_total=3000,
    )  # fmt: skip
    return Overview(
        at=1083.0,
        sources=(source,),
        consumers=(
            consumer,
            msgspec.structs.replace(consumer, name="converter-any", subject="episode.ready", in_flight=0, state="unserved"),
        ),
        episodes=(progress, msgspec.structs.replace(progress, stage="uploading", worker="uploader")),
        unconsumed={"episode.ready.gone": 2},
        notices=("completed and failures are counted on the stream: Redis is away",),
    )


@pytest.mark.parametrize("width", [80, 100])
def test_crowded_tables_keep_every_number_within_the_width(width: int) -> None:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    with console.file:
        console.print(overview_view(crowded()))
        shown = console.export_text()

    assert max(map(len, shown.splitlines())) <= width
    flat = "".join(shown.split())
    assert all(number in flat for number in ("12345", "17", "123456", "123.4", "1h40m"))
    assert "1m23s" in flat
