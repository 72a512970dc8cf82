"""Growing datasets on a real bus, in folders and in S3."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.uploader.plan import MANIFEST
from shared.bus import Bus
from shared.config import BosConfig, StorageConfig
from shared.errors import BadDataset
from shared.lerobot import layout
from shared.lerobot.commit import commit
from shared.lerobot.info import read_info
from shared.lerobot.state import dataset_state
from shared.store import Store
from tests.services.uploader.hosts import PREFIX, Host, fetched, opened_host, problems
from tests.shared.lerobot.parts import make_part, tree


@pytest.fixture
async def hosts(
    bus: Bus, storage_config: StorageConfig, store: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Host, Host]]:
    """Two hosts with one store; ``bus`` has provisioned what they need."""
    del bus
    bos: BosConfig | None = request.getfixturevalue("bos") if store.uri.startswith("s3:") else None
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(opened_host(storage_config, store, tmp_path / f"spool-{number}", bos=bos))
            for number in range(2)
        ]
        yield opened[0], opened[1]


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    return hosts[0]


async def test_an_episode_is_appended_announced_with_its_number_and_leaves_the_spool(host: Host, store: Store, tmp_path: Path) -> None:
    for seed, task in enumerate(("pick", "place")):
        await host.deliver(host.put_part(seed=seed, task=task), seq=seed)

    assert await problems(store, tmp_path / "fetched") == []
    state = await dataset_state(store, PREFIX)
    assert state is not None
    assert (state.info.total_episodes, state.tasks) == (2, ["pick", "place"])
    assert [(event.episode_id, event.episode_index) for event in await host.uploaded()] == [("ep0", 0), ("ep1", 1)]
    assert {event.uri for event in await host.uploaded()} == {f"{store.uri}/{PREFIX}".rstrip("/")}
    assert list(host.spool.rglob("*.parquet")) == []


async def test_two_hosts_at_once_make_one_continuous_dataset(hosts: tuple[Host, Host], store: Store, tmp_path: Path) -> None:
    events = [(host, host.put_part(seed=2 * number + which)) for number in range(20) for which, host in enumerate(hosts)]

    await asyncio.gather(*(host.deliver(event, seq=seq) for seq, (host, event) in enumerate(events)))

    assert await problems(store, tmp_path / "fetched") == []
    assert read_info(tmp_path / "fetched").total_episodes == 40
    uploaded = await hosts[0].uploaded()
    assert sorted(event.episode_index or 0 for event in uploaded) == list(range(40))
    by_index = {event.episode_index: event for event in uploaded}
    state = await dataset_state(store, PREFIX)
    assert state is not None
    assert [(line.episode_index, line.episode_id) for line in state.lines] == [(index, by_index[index].episode_id) for index in range(40)]


async def test_the_same_message_again_changes_nothing_with_and_without_its_part(host: Host, store: Store, tmp_path: Path) -> None:
    event = host.put_part(seed=0)
    await host.deliver(event)
    before = tree(await fetched(store, tmp_path / "before"))
    await host.deliver(event)
    host.put_part(seed=0)

    await host.deliver(event, seq=2)

    assert tree(await fetched(store, tmp_path / "after")) == before
    assert [(event.episode_id, event.episode_index) for event in await host.uploaded()] == [("ep0", 0)] * 2
    assert list(host.spool.rglob("*.parquet")) == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fps": 60}, r"^FPS mismatch: existing dataset has fps=30, but you specified fps=60\.$"),
        ({"robot_type": "koch"}, "Robot type mismatch: existing dataset has robot_type=bi_so100"),
        ({"cameras": ("wrist",)}, "Feature mismatch"),
    ],
)
async def test_what_does_not_fit_is_refused_and_the_dataset_stays(
    host: Host, store: Store, tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    await host.deliver(host.put_part(seed=0))
    before = tree(await fetched(store, tmp_path / "before"))
    event = host.put_part(seed=1, **options)

    with pytest.raises(BadDataset, match=sentence):
        await host.deliver(event, seq=2)

    assert tree(await fetched(store, tmp_path / "after")) == before
    assert len(await host.uploaded()) == 1


async def test_another_version_of_an_episode_that_is_in_is_refused(host: Host) -> None:
    await host.deliver(host.put_part(seed=0))

    with pytest.raises(BadDataset, match=r"already in as episode 0.*delete the old episode first"):
        await host.deliver(host.put_part(seed=0, digest="sha256:changed"), seq=2)


async def test_neither_part_nor_episode_is_an_error_with_a_remedy(host: Host) -> None:
    event = host.put_part(seed=0)
    shutil.rmtree(host.spool / event.path)

    with pytest.raises(BadDataset, match=r"me/stack does not hold it: publish episode\.ready again"):
        await host.deliver(event)

    assert await host.uploaded() == []


async def test_a_dataset_that_lerobot_recorded_is_extended(host: Host, store: Store, tmp_path: Path) -> None:
    make_part(tmp_path / "first", seed=7)
    commit(tmp_path / "first", tmp_path / "recorded")
    for path in ((tmp_path / "recorded") / "meta" / "episodeflow").iterdir():
        path.unlink()
    for path, content in tree(tmp_path / "recorded").items():
        await store.put_bytes(content, PREFIX + path)

    await host.deliver(host.put_part(seed=0))

    assert await problems(store, tmp_path / "fetched") == []
    assert read_info(tmp_path / "fetched").total_episodes == 2
    assert [event.episode_index for event in await host.uploaded()] == [1]


async def test_something_else_at_the_place_of_the_dataset_is_left_alone(host: Host, store: Store) -> None:
    await store.put_bytes(b"mine", f"{PREFIX}holiday.jpg")

    with pytest.raises(BadDataset, match=r"is there but is no dataset \(meta/info.json is missing\)"):
        await host.deliver(host.put_part(seed=0))

    assert [info.key async for info in store.list(PREFIX) if ".episodeflow" not in info.key] == [f"{PREFIX}holiday.jpg"]


async def test_a_part_that_comes_when_its_episode_is_in_is_tidied_away_and_others_stay(hosts: tuple[Host, Host]) -> None:
    host, other = hosts
    event = host.put_part(seed=0)
    await host.deliver(event)
    host.put_part(seed=0)
    waiting = host.put_part(seed=1)

    num_removed = await host.uploader.tidy(is_full=False)

    assert num_removed == 1
    assert not (host.spool / event.path).exists()
    assert (host.spool / waiting.path).exists()
    assert await other.uploader.tidy(is_full=True) == 0


async def test_after_a_restart_a_late_part_is_found_in_the_datasets_that_the_spool_has_fed(
    host: Host, storage_config: StorageConfig, store: Store, request: pytest.FixtureRequest
) -> None:
    await host.deliver(host.put_part(seed=0))
    event = host.put_part(seed=0)
    waiting = host.put_part(seed=1)
    bos: BosConfig | None = request.getfixturevalue("bos") if store.uri.startswith("s3:") else None
    async with opened_host(storage_config, store, host.spool, bos=bos) as restarted:
        num_removed = await restarted.uploader.tidy(is_full=True)

    assert num_removed == 1
    assert not (host.spool / event.path).exists()
    assert (host.spool / waiting.path).exists()


async def test_while_an_event_waits_for_the_spool_nothing_is_tidied_away_on_a_guess(
    host: Host, storage_config: StorageConfig, store: Store, request: pytest.FixtureRequest
) -> None:
    await host.deliver(host.put_part(seed=0))
    event = host.put_part(seed=0)
    await host.bus.publish(event, message_id=f"waiting:{host.source}")
    bos: BosConfig | None = request.getfixturevalue("bos") if store.uri.startswith("s3:") else None
    async with opened_host(storage_config, store, host.spool, bos=bos) as restarted:
        assert await restarted.uploader.tidy(is_full=True) == 0

    assert (host.spool / event.path / MANIFEST).exists()


async def pretend_1000(store: Store, folder: Path) -> None:
    """Make a dataset of one episode say that it has a thousand; only the newest table is there."""
    await fetched(store, folder)
    info = json.loads((folder / layout.INFO_PATH).read_bytes())
    info |= {"total_episodes": 1000, "total_frames": 3000, "total_videos": 1000}
    await store.put_bytes(json.dumps(info).encode(), PREFIX + layout.INFO_PATH)
    for path in (layout.EPISODES_PATH, layout.STATS_PATH):
        line = json.loads((folder / path).read_bytes())
        content = b"".join(json.dumps({**line, "episode_index": index}).encode() + b"\n" for index in range(1000))
        await store.put_bytes(content, PREFIX + path)
    await store.put(folder / layout.data_path(0), PREFIX + layout.data_path(999))


async def test_episode_1000_of_a_dataset_in_a_bucket_opens_the_second_chunk(
    bus: Bus, storage_config: StorageConfig, s3_store: Store, bos: BosConfig, tmp_path: Path
) -> None:
    del bus
    store = s3_store
    async with opened_host(storage_config, store, tmp_path / "spool", bos=bos) as host:
        await host.deliver(host.put_part(seed=0))
        await pretend_1000(store, tmp_path / "one")
        await host.deliver(host.put_part(seed=1), seq=2)

    grown = read_info(await fetched(store, tmp_path / "grown"))
    assert (grown.total_episodes, grown.total_chunks) == (1001, 2)
    assert (tmp_path / "grown" / "data/chunk-001/episode_001000.parquet").exists()
    assert (tmp_path / "grown" / "videos/chunk-001/observation.images.front/episode_001000.mp4").exists()
