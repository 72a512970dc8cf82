"""The whole corpus through a running converter: every defect ends as one failure with its sentence, and nothing else suffers."""

from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import msgspec

from cli.servers import ValkeyServer
from shared.bus import Bus
from shared.config import StorageConfig, load_storage
from shared.events import EpisodeConverted, EpisodeFailed, EpisodeReady
from shared.lerobot.check import check_dataset
from shared.provision import provision, provision_plan
from tests.corpus.hostile import EVENTS, SOURCE
from tests.corpus.service import Outcomes, published, running_converter, write_storage
from tests.corpus.whole import EPISODES, broken_copy
from tests.fixtures_bus import ServerFactory
from tests.services.converter.episodes import write_episode

NUM_SOUND = 12
SENT = tuple(case for case in EPISODES if not case.is_trusted)


def bodies(sound: Path, raw: Path) -> dict[str, bytes]:
    """Lay out the corpus as the raw episodes of a source, and return the events to publish, by name."""
    bodies = {case.name: case.body for case in EVENTS}
    for case in SENT:
        broken_copy(case, sound, raw)
        bodies[case.name] = msgspec.json.encode({"episode_id": case.name, "source": SOURCE, "config_overrides": case.overrides})
    for index in range(NUM_SOUND):
        name = f"sound_{index:02d}"
        shutil.copytree(sound, raw / name)
        bodies[name] = msgspec.json.encode({"episode_id": name, "source": SOURCE})
    return bodies


def sentences() -> dict[str, tuple[str, str]]:
    """Return error type and sentence of every case that must fail."""
    episodes = {case.name: (case.error_type, case.sentence) for case in SENT if case.sentence is not None}
    return episodes | {case.name: (case.error_type, case.sentence) for case in EVENTS}


def said(event: EpisodeReady, store: Path) -> tuple[str, str]:
    """Return error type and sentence of an outcome, without the body it quotes and the place of the store."""
    if not isinstance(event, EpisodeFailed):
        return ("", "")
    return event.error_type, event.error.partition(" (message ")[0].replace(str(store), "{store}")


def leftovers(folder: Path) -> list[Path]:
    """Return what conversions left in the folders they work in."""
    return [path for pattern in ("work/work/*/*", "spool/.work/*/*") for path in folder.glob(pattern) if path.name != "lock"]


def sound_datasets(folder: Path) -> list[str]:
    """Return the episodes in the spool, each of which the check finds sound."""
    parts = list(folder.glob(f"spool/{SOURCE}/*/*"))
    assert [part for part in parts if check_dataset(part, quick=True).problems] == []
    return sorted(part.parent.name.rpartition("_")[0] for part in parts)


async def until_quiet(bus: Bus, storage: StorageConfig) -> list[tuple[str, int, int]]:
    """Wait until every converter's message is acknowledged; return what is left over."""
    names = [durable.name for durable in provision_plan(storage).durables if durable.name.startswith("converter")]
    while True:
        infos = [info for info in await bus.consumer_infos() if info.name in names]
        left = [(info.name, info.num_pending, info.num_ack_pending) for info in infos]
        if not any(pending or unacknowledged for _, pending, unacknowledged in left):
            return left
        await asyncio.sleep(0.05)


async def test_every_defect_fails_once_with_its_sentence_while_sound_episodes_complete_in_the_same_process(
    tmp_path: Path, private_nats: ServerFactory, valkey_server: ValkeyServer
) -> None:
    nats = await private_nats(max_payload_bytes=4 * 1024 * 1024)
    path = write_storage(tmp_path, nats, valkey_server.config())
    storage, _ = load_storage(path, {})
    by_name = bodies(write_episode(tmp_path, "original", seconds=0.6), tmp_path / "store" / "raw_datas")
    order = sorted(by_name)
    random.Random(7).shuffle(order)
    outcomes = Outcomes()
    async with await Bus.connect(storage.nats, name="test") as bus, asyncio.timeout(100):
        await provision(bus, provision_plan(storage))
        failed = await bus.connection.subscribe("episode.failed.>", outcomes.take)
        converted = await bus.connection.subscribe("episode.converted.>", outcomes.take)
        async with running_converter(path) as process:
            name_by_seq = {await published(bus, by_name[name]): name for name in order}
            await outcomes.until(len(order))
            await until_quiet(bus, storage)
            shutil.copytree(tmp_path / "original", tmp_path / "store" / "raw_datas" / "afterwards")
            await published(bus, msgspec.json.encode({"episode_id": "afterwards", "source": SOURCE}))
            await outcomes.until(len(order) + 1)
            left = await until_quiet(bus, storage)
            is_same_process = process.returncode is None
            work_left = leftovers(tmp_path)
        await failed.end(drain=False)
        await converted.end(drain=False)
    found = {name_by_seq.get(key, key): events for key, events in outcomes.by_name.items()}

    assert is_same_process
    assert process.returncode == 0
    assert {name: len(events) for name, events in found.items()} == dict.fromkeys([*order, "afterwards"], 1)
    expected = sentences()
    assert {name: said(found[name][0], tmp_path / "store") for name in expected} == expected
    failures = [event for name in expected for event in found[name] if isinstance(event, EpisodeFailed)]
    assert {(event.reason, event.attempts, event.stage) for event in failures} == {("rejected", 1, "converter")}
    complete = sorted(name for name in found if name not in expected)
    assert all(isinstance(found[name][0], EpisodeConverted) for name in complete)
    assert all(pending == unacknowledged == 0 for _, pending, unacknowledged in left)
    assert work_left == []
    assert sound_datasets(tmp_path) == complete
