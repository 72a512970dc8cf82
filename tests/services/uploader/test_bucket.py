"""A growing dataset in S3: commits that are cut off at every step, and leases that are lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.uploader.bucket import BucketDataset
from shared.bus import Bus
from shared.errors import BadDataset, StoreUnavailable
from shared.leases import DatasetBusy, Key, Lease, Leases
from shared.lerobot import layout
from shared.lerobot.check import check_dataset
from shared.lerobot.commit import commit
from shared.lerobot.info import read_info
from shared.lerobot.state import dataset_state
from shared.store import Store
from tests.services.uploader.hosts import PREFIX, fetched, problems
from tests.shared.lerobot.parts import make_part, tree


class BrittleStore:
    """A store that ends at its n-th change, before it or right after it."""

    def __init__(self, store: Store, *, last_change: int, is_done: bool) -> None:
        self._store, self._left, self._is_done = store, last_change, is_done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, path: Path, key: str) -> None:
        self._left -= 1
        if self._left >= 0 or (self._left == -1 and self._is_done):
            await self._store.put(path, key)
        if self._left < 0:
            raise StoreUnavailable("the store is gone")

    @property
    def is_broken(self) -> bool:
        return self._left < 0


@pytest.fixture
async def lease(bus: Bus, source: str) -> AsyncIterator[Lease]:
    async with Leases(bus).holding(source) as held:
        yield held


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    for seed, task in enumerate(("pick", "place", "push")):
        make_part(tmp_path / str(seed), seed=seed, task=task, num_frames=2)
    return [tmp_path / str(seed) for seed in range(3)]


def dataset(store: Any, folder: Path) -> BucketDataset:
    return BucketDataset(store, PREFIX, mirror=folder, parallel_uploads=1)


async def contents(store: Store, folder: Path) -> dict[str, bytes]:
    return tree(await fetched(store, folder))


@pytest.mark.parametrize("num_before", [0, 1])
@pytest.mark.parametrize("is_same_part", [True, False])
async def test_whatever_step_cuts_a_commit_off_the_next_one_makes_a_sound_dataset(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path, num_before: int, *, is_same_part: bool
) -> None:
    following = parts[1] if is_same_part else parts[2]
    num_steps = 0
    while True:
        await s3_store.delete_prefix(PREFIX)
        if num_before:
            await dataset(s3_store, tmp_path / f"m{num_steps}").commit(parts[0], lease)
        brittle = BrittleStore(s3_store, last_change=num_steps // 2, is_done=bool(num_steps % 2))
        once = dataset(brittle, tmp_path / f"m{num_steps}")
        if not await is_cut_off(once, parts[1], lease):
            break
        state = await dataset_state(s3_store, PREFIX)
        num_visible = state.info.total_episodes if state else 0
        committed = await dataset(s3_store, tmp_path / f"n{num_steps}").commit(following, lease)
        is_in = num_visible > num_before  # the answer was lost, and nothing else
        assert (committed.already_in, committed.episode_index) == (is_in and is_same_part, num_before + (is_in and not is_same_part))
        assert await problems(s3_store, tmp_path / f"f{num_steps}") == []
        assert read_info(tmp_path / f"f{num_steps}").total_episodes == committed.episode_index + 1
        num_steps += 1
    assert num_steps > 10


async def is_cut_off(bucket: BucketDataset, part: Path, lease: Lease) -> bool:
    try:
        await bucket.commit(part, lease)
    except StoreUnavailable:
        return True
    return False


async def test_whoever_was_cut_off_goes_on_with_the_same_mirror(s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path) -> None:
    brittle = BrittleStore(s3_store, last_change=1000, is_done=True)
    once = dataset(brittle, tmp_path / "mirror")
    await once.commit(parts[0], lease)
    for num_left in range(7):
        brittle._left = num_left
        assert await is_cut_off(once, parts[1], lease)
    brittle._left = 1000

    await once.commit(parts[2], lease)
    await once.commit(parts[1], lease)

    assert await problems(s3_store, tmp_path / "fetched") == []
    state = await dataset_state(s3_store, PREFIX)
    assert state is not None
    assert [line.episode_id for line in state.lines] == ["ep0", "ep2", "ep1"]


class SpoilingStore(BrittleStore):
    """A store after whose last put the mirror cannot be brought up to date."""

    spoiled: Path

    async def put(self, path: Path, key: str) -> None:
        await super().put(path, key)
        if key.endswith(layout.INFO_PATH):
            self.spoiled.unlink(missing_ok=True)
            self.spoiled.mkdir()


async def test_a_mirror_that_could_not_be_brought_up_to_date_is_fetched_anew(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path
) -> None:
    await dataset(s3_store, tmp_path / "other").commit(parts[0], lease)
    spoiling = SpoilingStore(s3_store, last_change=1000, is_done=True)
    spoiling.spoiled = tmp_path / "mirror" / layout.TASKS_PATH
    once = dataset(spoiling, tmp_path / "mirror")
    assert await is_cut_off(once, parts[1], lease)
    spoiling.spoiled.rmdir()

    again = await dataset(s3_store, tmp_path / "third").commit(parts[1], lease)
    assert (again.already_in, again.episode_index) == (True, 1)
    assert await is_cut_off(once, parts[2], lease)
    assert await problems(s3_store, tmp_path / "fetched") == []
    assert read_info(tmp_path / "fetched").total_episodes == 3


async def test_two_mirrors_in_turn_never_disagree(s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path) -> None:
    one, other = dataset(s3_store, tmp_path / "one"), dataset(s3_store, tmp_path / "other")
    for bucket, part in ((one, parts[0]), (other, parts[1]), (one, parts[2])):
        await bucket.commit(part, lease)

    again = await other.commit(parts[2], lease)

    assert (again.already_in, again.episode_index) == (True, 2)
    assert await problems(s3_store, tmp_path / "fetched") == []


async def test_a_dataset_that_grows_in_a_bucket_equals_one_that_grows_in_a_folder(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path
) -> None:
    bucket = dataset(s3_store, tmp_path / "mirror")
    for part in parts:
        await bucket.commit(part, lease)
        commit(part, tmp_path / "folder")

    assert await contents(s3_store, tmp_path / "fetched") == tree(tmp_path / "folder")


async def test_a_reader_between_any_two_steps_sees_a_dataset_that_can_be_loaded(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path
) -> None:
    await dataset(s3_store, tmp_path / "mirror").commit(parts[0], lease)
    seen: list[tuple[int, int]] = []
    for step in range(20):
        brittle = BrittleStore(s3_store, last_change=step, is_done=False)
        if not await is_cut_off(dataset(brittle, tmp_path / f"m{step}"), parts[1], lease):
            break
        folder = await fetched(s3_store, tmp_path / f"f{step}")
        num_lines = len((folder / layout.EPISODES_PATH).read_bytes().splitlines())
        seen.append((num_lines, len(list(folder.glob("data/**/*.parquet")))))
        await s3_store.delete_prefix(PREFIX)
        await dataset(s3_store, tmp_path / f"again{step}").commit(parts[0], lease)

    # LeRobot needs as many tables as lines: they differ between two puts that go out side by side, and nowhere else.
    assert seen.count((1, 1)) == len(seen) - 2
    assert [pair for pair in seen if pair[0] != pair[1]] == [seen[-2]]


async def test_without_its_lease_a_commit_sends_nothing(bus: Bus, s3_store: Store, parts: list[Path], tmp_path: Path) -> None:
    never_taken = Lease(Key(bus, "a", timeout_s=1.0), lease_s=30.0)

    with pytest.raises(DatasetBusy):
        await dataset(s3_store, tmp_path / "mirror").commit(parts[0], never_taken)

    assert [info.key async for info in s3_store.list(PREFIX)] == []


class SlowStore(BrittleStore):
    """A store whose videos take for ever."""

    async def put(self, path: Path, key: str) -> None:
        if key.endswith(".mp4"):
            self.begun.set()
            await asyncio.Event().wait()
        await super().put(path, key)

    begun: asyncio.Event


async def test_a_commit_ends_when_its_lease_slips_away_and_the_dataset_stays(
    bus: Bus, source: str, s3_store: Store, parts: list[Path], lease: Lease, tmp_path: Path
) -> None:
    await dataset(s3_store, tmp_path / "mirror").commit(parts[0], lease)
    before = await contents(s3_store, tmp_path / "before")
    slow = SlowStore(s3_store, last_change=1000, is_done=True)
    slow.begun = asyncio.Event()
    unkept = Lease(Key(bus, f"{source}-other", timeout_s=5.0), lease_s=1.0)
    assert await unkept.take()

    with pytest.raises(DatasetBusy, match="could not be renewed in time"):
        await dataset(slow, tmp_path / "slow").commit(parts[1], unkept)

    after = await contents(s3_store, tmp_path / "after")
    assert slow.begun.is_set()
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {layout.manifest_path(1)}


@pytest.mark.parametrize(("removed", "added", "sentence"), [
    (layout.data_path(0), None, "episode_000000.parquet is missing"),
    (None, layout.data_path(2), "episode_000002.parquet is there"),
])  # fmt: skip
async def test_a_dataset_whose_tables_contradict_its_totals_is_refused(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path, removed: str | None, added: str | None, sentence: str
) -> None:
    bucket = dataset(s3_store, tmp_path / "mirror")
    await bucket.commit(parts[0], lease)
    if removed:
        await s3_store.delete([PREFIX + removed])
    if added:
        await s3_store.put_bytes(b"rows", PREFIX + added)

    with pytest.raises(BadDataset, match=f"{sentence}, but info.json says 1 episodes"):
        await bucket.commit(parts[1], lease)


async def test_files_of_a_first_commit_that_was_cut_off_and_was_another_part_are_removed(
    s3_store: Store, lease: Lease, parts: list[Path], tmp_path: Path
) -> None:
    make_part(tmp_path / "wide", seed=9, cameras=("front", "wrist"), num_frames=2)
    brittle = BrittleStore(s3_store, last_change=6, is_done=True)
    assert await is_cut_off(dataset(brittle, tmp_path / "m"), tmp_path / "wide", lease)

    await dataset(s3_store, tmp_path / "mirror").commit(parts[0], lease)

    folder = await fetched(s3_store, tmp_path / "fetched")
    assert check_dataset(folder).problems == ()
    assert tree(folder) == tree(parts[0])
