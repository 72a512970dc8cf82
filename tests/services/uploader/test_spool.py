"""The uploader's view on the spool."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.uploader.plan import MANIFEST
from services.uploader.spool import Spool


def put(spool: Path, name: str = "e1", digest: str = "sha256:a") -> Path:
    part = spool / "lab" / f"{name}_nearest" / "0123"
    manifest = part / MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f'{{"source": "lab", "episode_id": "{name}", "strategy": "nearest", "digest": "{digest}", "raw": {{}}}}')
    return part


def test_a_removed_dataset_takes_the_empty_folders_above_it_along_and_no_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    first, second = put(tmp_path, "e1"), put(tmp_path, "e2")

    spool.remove(first)
    one_left = sorted(path.name for path in (tmp_path / "lab").iterdir())
    spool.remove(second)

    assert one_left == ["e2_nearest"]
    assert list(tmp_path.iterdir()) == []


def test_removing_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    Spool(tmp_path).remove(tmp_path / "lab" / "e1_nearest" / "0123")

    assert list(tmp_path.iterdir()) == []


def test_a_full_look_shows_every_dataset_with_its_owner_and_leaves_what_is_no_dataset(tmp_path: Path) -> None:
    part = put(tmp_path)
    put(tmp_path, "bad").joinpath(MANIFEST).write_text("{}")
    (tmp_path / ".work" / "a" / "b" / "c").mkdir(parents=True)

    (found,) = Spool(tmp_path).lying(is_full=True)

    assert (found.folder, found.digest) == (part, "sha256:a")
    assert (found.event.source, found.event.episode_id, found.event.strategy) == ("lab", "e1", "nearest")


def test_a_quick_look_shows_only_what_came_again_after_it_was_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(tmp_path, "other")
    spool.remove(put(tmp_path))
    before = spool.lying(is_full=False)
    part = put(tmp_path)

    assert before == []
    assert [found.folder for found in spool.lying(is_full=False)] == [part]


def test_what_a_killed_uploader_had_renamed_and_not_deleted_is_swept(tmp_path: Path) -> None:
    put(tmp_path).rename(tmp_path / ".removed-1")

    Spool(tmp_path).sweep()

    assert [path.name for path in tmp_path.iterdir()] == ["lab"]


async def test_one_task_at_a_time_works_on_a_dataset(tmp_path: Path) -> None:
    spool, inside, most = Spool(tmp_path), 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with spool.holding(tmp_path / "a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(5)))

    assert most == 1


def test_a_part_that_came_again_is_shown_with_the_growing_dataset_that_took_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.remove(put(tmp_path), dataset="me/stack")
    put(tmp_path)

    assert [found.event.dataset for found in spool.lying(is_full=False)] == ["me/stack"]


def test_the_growing_datasets_of_a_spool_are_known_after_a_restart(tmp_path: Path) -> None:
    before = Spool(tmp_path).datasets()
    for name in ("me/stack", "me/pour", "me/stack"):
        Spool(tmp_path).feeds(name)

    assert before == frozenset()
    assert Spool(tmp_path).datasets() == {"me/stack", "me/pour"}
    assert Spool(tmp_path).lying(is_full=True) == []
