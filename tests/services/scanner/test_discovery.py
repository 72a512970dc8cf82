"""Which episodes of a listing are ready: against a brute-force judge, and named cases."""

from collections.abc import AsyncIterator, Iterable

from hypothesis import given
from hypothesis import strategies as st

from services.scanner.discovery import Found, Position, Wanted, episodes, start_after
from shared.store_object import ObjectInfo

WANTED = Wanted(arm_files=("left.parquet", "right.parquet"), cameras=("front",), min_files=4, settle_s=10.0)
WHOLE = ("images/front/100.jpg", "images/front/200.jpg", "joints/left.parquet", "joints/right.parquet")


def objects(episode: str, tails: Iterable[str] = WHOLE, *, modified_s: float = 0.0, size_bytes: int = 1) -> list[ObjectInfo]:
    return [ObjectInfo(key=f"raw/{episode}/{tail}", size_bytes=size_bytes, modified_s=modified_s) for tail in tails]


async def judged(listing: list[ObjectInfo], *, now_s: float = 100.0) -> list[Found]:
    async def listed() -> AsyncIterator[ObjectInfo]:
        for info in listing:
            yield info

    return [found async for found in episodes(listed(), prefix="raw/", wanted=WANTED, now_s=now_s)]


async def test_a_whole_episode_that_no_longer_grows_is_ready() -> None:
    (found,) = await judged(objects("e1"))

    assert found.is_ready
    assert (found.episode_id, found.num_files, found.folder) == ("e1", 4, "raw/e1/")


async def test_a_missing_arm_and_a_camera_without_a_frame_are_named() -> None:
    (found,) = await judged(objects("e1", ["images/front/notes.txt", "joints/left.parquet", "x1", "x2"]))

    assert not found.is_ready
    assert "no joints/right.parquet" in found.why
    assert "no frame in images/front/" in found.why


async def test_an_empty_parquet_file_does_not_count_as_an_arm() -> None:
    (found,) = await judged(objects("e1", size_bytes=0))

    assert "no joints/left.parquet" in found.why


async def test_too_few_files_are_counted() -> None:
    (found,) = await judged(objects("e1", WHOLE[1:]))

    assert "3 files, expected at least 4" in found.why


async def test_an_episode_settles_by_the_stores_clock() -> None:
    (young,) = await judged(objects("e1", modified_s=95.0))
    (old,) = await judged(objects("e1", modified_s=90.0))

    assert young.is_settling
    assert young.settles_in_s == 5.0
    assert old.is_ready


async def test_a_name_that_can_be_no_id_is_never_ready_and_does_not_hold_the_position() -> None:
    bad, good = await judged([*objects("e 1"), *objects("e2")])
    position = Position(None)

    position.pass_by(bad, is_done=False)
    position.pass_by(good, is_done=True)

    assert not bad.is_ready
    assert position.key == "raw/e2/"


async def test_objects_directly_below_the_prefix_belong_to_no_episode() -> None:
    assert await judged([ObjectInfo(key="raw/readme.txt", size_bytes=1, modified_s=0)]) == []


async def test_the_revision_changes_with_the_content_only() -> None:
    (first,) = await judged(objects("e1"))
    (later,) = await judged(objects("e1"), now_s=500.0)
    (grown,) = await judged(objects("e1", size_bytes=2))

    assert first.revision == later.revision
    assert first.revision != grown.revision


@given(st.lists(st.booleans(), max_size=8))
async def test_the_position_never_passes_an_episode_that_is_not_ready(are_whole: list[bool]) -> None:
    listing = [info for index, is_whole in enumerate(are_whole) for info in objects(f"e{index}", WHOLE if is_whole else WHOLE[:1])]
    position = Position(None)

    for found in await judged(listing):
        position.pass_by(found, is_done=found.is_ready)

    num_passed = are_whole.index(False) if False in are_whole else len(are_whole)
    assert position.key == (f"raw/e{num_passed - 1}/" if num_passed else None)


def test_a_listing_starts_behind_the_whole_folder() -> None:
    after = start_after("raw/e1/images/front/1.jpg", "raw/")

    assert after is not None
    assert all(f"raw/e1/{tail}" < after for tail in WHOLE)
    assert after < "raw/e10/"
    assert start_after("other/e1/", "raw/") is None
    assert start_after(None, "raw/") is None
