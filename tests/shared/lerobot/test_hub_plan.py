"""What a push sends first and last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.lerobot.hub_plan import MAX_FILES_PER_FOLDER, commits, crowded_folder, stale_paths

PATHS = st.sampled_from(
    [f"videos/chunk-000/cam/episode_{index:06d}.mp4" for index in range(9)]
    + [f"data/chunk-000/episode_{index:06d}.parquet" for index in range(9)]
    + [f"meta/episodeflow/episode_{index:06d}.json" for index in range(9)]
    + ["meta/info.json", "meta/episodes.jsonl", "README.md", "LICENSE", "notes/more.txt"]
)


def wave(path: str) -> int:
    """Return in which order kinds of files may become visible; written apart from the code it is compared with."""
    first_parts = ["videos/", "data/", "meta/episodeflow/"]
    for number, part in enumerate(first_parts):
        if path.startswith(part):
            return number
    return 9 if path.startswith("meta/") or path == "README.md" else 3


@given(st.dictionaries(PATHS, st.integers(0, 100)), st.sets(PATHS), st.integers(1, 12), st.integers(1, 400))
def test_every_file_goes_once_and_metadata_of_the_whole_goes_last_with_the_removals(
    sizes: dict[str, int], deletions: set[str], max_files: int, max_bytes: int
) -> None:
    plan = commits(sizes, deletions, max_files=max_files, max_bytes=max_bytes)

    sent = [path for commit in plan for path in commit.additions]
    assert sorted(sent) == sorted(sizes)
    assert [wave(path) for path in sent] == sorted(wave(path) for path in sent)
    assert all(not commit.deletions for commit in plan[:-1])
    assert set(plan[-1].deletions if plan else ()) == deletions
    assert all(commit.additions or commit.deletions for commit in plan)
    assert len({index for index, commit in enumerate(plan) if any(wave(path) == 9 for path in commit.additions)}) <= 1
    for commit in plan[:-1]:
        assert len(commit.additions) <= max_files
        assert len(commit.additions) == 1 or sum(sizes[path] for path in commit.additions) <= max_bytes


def test_small_push_is_one_commit() -> None:
    sizes = {"meta/info.json": 5, "data/chunk-000/episode_000000.parquet": 7, "videos/chunk-000/cam/episode_000000.mp4": 9}

    assert len(commits(sizes, ["meta/old.json"], max_files=3, max_bytes=21)) == 1
    assert len(commits(sizes, ["meta/old.json"], max_files=2, max_bytes=21)) == 2
    assert len(commits(sizes, ["meta/old.json"], max_files=3, max_bytes=20)) == 2


def test_nothing_to_send_is_no_commit() -> None:
    assert commits({}, [], max_files=10, max_bytes=10) == []


def test_only_files_of_the_dataset_are_removed_from_the_hub() -> None:
    remote = [
        "data/old.parquet",
        "videos/old.mp4",
        "meta/old.json",
        "meta/info.json",
        "README.md",
        ".gitattributes",
        "demo/clip.gif",
        "data.txt",
    ]

    assert stale_paths(remote, {"meta/info.json"}) == ["data/old.parquet", "meta/old.json", "videos/old.mp4"]


def test_folder_that_the_hub_would_refuse_is_found() -> None:
    paths = [f"meta/episodeflow/episode_{index:06d}.json" for index in range(MAX_FILES_PER_FOLDER)]

    assert crowded_folder([*paths, "meta/info.json"]) is None
    assert crowded_folder([*paths, "meta/episodeflow/episodes.jsonl"]) == ("meta/episodeflow", MAX_FILES_PER_FOLDER + 1)
